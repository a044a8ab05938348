"""Builds of knowledge bases from sources."""
