"""What scores the pictures that were drawn of a benchmark's items."""
