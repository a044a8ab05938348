"""What scores the images that were drawn of a benchmark's items."""
