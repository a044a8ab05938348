"""Detection of near-duplicate images, within a base and across bases."""
