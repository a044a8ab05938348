"""Vectors of the pairs of a base: made by an encoder, or taken from where others have made them."""
