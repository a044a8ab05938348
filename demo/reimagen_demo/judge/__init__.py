"""The classifier that tells entities and scenes."""
