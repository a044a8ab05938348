"""Vectors of the pairs of a base: computed by an encoder, or read from precomputed files."""
