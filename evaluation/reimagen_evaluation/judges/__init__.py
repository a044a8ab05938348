"""Judges, which score the images of a benchmark's items."""
