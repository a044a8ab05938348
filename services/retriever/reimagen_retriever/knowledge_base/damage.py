"""The error for damaged knowledge bases."""


class DamagedError(Exception):
    """A part of a knowledge base is missing or differs from the manifest."""
