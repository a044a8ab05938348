"""Samplers, one per file, all with the interface of `sampler.py`."""
