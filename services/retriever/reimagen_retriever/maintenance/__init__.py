"""Verify, compact, snapshot and unite knowledge bases."""
