"""Scenes: backgrounds, times of day, weather, and the wordings that name them."""
