"""Storage of a knowledge base: manifest, image store and sources."""
