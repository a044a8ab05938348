"""Benchmarks, judges, metrics and reports for a cascade's images; serving does not need this package."""
