"""Import of published models as cascades."""
