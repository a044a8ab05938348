"""What is stored: manifest, image store, sources."""
