"""Frozen text encoders with a common interface."""
