"""Finding nearly equal images, within a base and across bases."""
