"""Requests for images that are handled in the background and survive a restart of the service."""
