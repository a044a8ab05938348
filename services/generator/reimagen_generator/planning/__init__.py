"""What drawing or training takes on accelerators that are not there: memory, work and time."""
