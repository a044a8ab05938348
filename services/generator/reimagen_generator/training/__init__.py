"""Training; nothing here is needed to serve."""
