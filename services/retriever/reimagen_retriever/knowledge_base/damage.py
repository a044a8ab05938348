"""The error of a knowledge base that is not what it was built to be."""


class DamagedError(Exception):
    """A part of a knowledge base is missing, or not what the manifest says it is."""
