"""Checks that real services recover when their processes are killed under load."""
