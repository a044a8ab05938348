"""From the folders of published models to a cascade's."""
