"""What `make results` measures and writes."""
