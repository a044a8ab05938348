"""The error for damaged knowledge bases."""


class DamagedError(Exception):
    """A part of a knowledge base is missing or differs from the manifest."""


class NewerLuceneError(DamagedError):
    """A newer Lucene wrote the index. It may be whole, but this program cannot read it."""
