"""Live writes: pairs are added, replaced and removed while the base is served."""
