"""Benchmarks: each module reads one benchmark's file format into a list of items."""
