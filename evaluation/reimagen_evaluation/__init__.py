"""Measuring what a cascade does; nothing here is needed to serve."""
