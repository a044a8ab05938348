"""Backgrounds: places, weather and the words that name them."""
