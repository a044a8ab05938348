"""Load tests of the serving engine."""
