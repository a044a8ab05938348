"""Several devices: a mesh, and what of a cascade lies where on it."""
