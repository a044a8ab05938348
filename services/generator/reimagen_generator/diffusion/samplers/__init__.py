"""Samplers, one a file, all with the interface of `sampler.py`."""
