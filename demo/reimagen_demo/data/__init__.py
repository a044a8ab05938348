"""Composed training images and their prompts."""
