"""Distribution over several devices: the mesh, and the placement of a cascade's arrays on it."""
