"""Backends that draw images in place of the cascade."""
