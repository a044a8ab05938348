"""Pairs added, replaced and removed while the base is served."""
