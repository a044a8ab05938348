"""Operations on an open Lucene index: one call into Java each, which any number of threads may make at the same time.

pyjnius releases Python's lock during a call, but instance methods of Java objects need `in_java`. Therefore these
operations are static methods of small Java classes, see `services/retriever/java`. They return bytes, because pyjnius
converts other arrays element by element.
"""

import os
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.index.jvm import in_java, java_class
from reimagen_retriever.index.records import origin_and_rest
from reimagen_retriever.knowledge_base.analysis import Analysis

_CORES = len(os.sched_getaffinity(0))
_SMALLEST_PART = 1_000_000
"""Number of documents from which another core is worth its start for one search."""
_LENGTHS = 256
_TERMS_AT_ONCE = 100_000
_CACHED_FILTERS = 256


class Query(NamedTuple):
    """A search for the documents with the highest BM25 scores."""

    terms: Sequence[str]
    depth: int
    """Maximum number of documents."""
    required: Sequence[Sequence[str]] | None = None
    """The alternatives of which a document must have all terms of at least one."""
    filters: Filters = NO_FILTER
    """The pairs to search."""


class Document(NamedTuple):
    """A document that was found."""

    number: int
    score: float
    """Its BM25 score, or 0 if it was not searched for by terms."""
    stored: bytes
    """Its pair, see `records`."""


class Statistics(NamedTuple):
    """The statistics of all captions, including removed ones, that BM25 scores depend on."""

    captions: int
    average_length: float
    """Average length of a caption, in terms."""
    known_lengths: list[int]
    """The caption lengths that Lucene distinguishes, ascending. Other lengths are rounded down to one of them."""
    frequencies: list[int]
    """Document frequency of each of the requested terms."""


class Lucene:
    """An index, or several as one. It can be used until its readers are closed.

    Args:
        readers: Lucene's readers.
        analysis: The analysis with which they were written.
    """

    @in_java
    def __init__(self, readers: Sequence[Any], analysis: Analysis) -> None:
        self._java = java_class("reimagen.Index")
        self._index = self._java.over(tuple(readers), analysis.k1, analysis.b, _CORES, _SMALLEST_PART)

    def search(self, queries: Sequence[Query]) -> list[list[Document]]:
        """Return for each query the documents with the highest BM25 scores, ties in the byte order of their ids.

        Several queries are divided among the cores that no other search uses.
        """
        if not queries:
            return []
        terms = [" ".join(query.terms) for query in queries]
        required = [None if query.required is None else "\n".join(map(" ".join, query.required)) for query in queries]
        filters = [_java_filter(query.filters) for query in queries]
        depths = [query.depth for query in queries]
        if len(queries) == 1:
            # Without arrays, which take time to convert.
            return [_documents(self._java.search(self._index, terms[0], required[0], filters[0], depths[0]).tostring())]
        packed = memoryview(self._java.searchAll(self._index, terms, required, filters, depths).tostring())
        found, end = [], 0
        while end < len(packed):
            (size,) = struct.unpack_from("<i", packed, end)
            start, end = end + 4, end + 4 + size
            found.append(_documents(packed[start:end].tobytes()))
        return found

    def find(
        self, field: str | None, values: Sequence[str], limit: int, filters: Filters = NO_FILTER
    ) -> list[Document]:
        """Return the first documents of which a field has any of the values, or any documents without a field."""
        found = self._java.find(self._index, field, _valid(values), _java_filter(filters), limit)
        return _documents(found.tostring())

    def documents(self, numbers: Sequence[int], limit: int | None = None) -> list[Document]:
        """Return the first documents with these numbers, in their order, without those that are removed."""
        packed = np.array(numbers, "<i4").tobytes()
        found = self._java.documents(self._index, packed, len(numbers) if limit is None else limit)
        return _documents(found.tostring())

    def following(self, identifier: str, limit: int) -> list[Document]:
        """Return the first documents whose ids come after an id, in byte order."""
        return _documents(self._java.following(self._index, identifier, limit).tostring())

    def shared_id(self) -> str | None:
        """Return an id that several documents have, or None. Reads all ids."""
        found: str | None = self._java.sharedId(self._index)
        return found

    def statistics(self, terms: Sequence[str]) -> Statistics:
        """Return the collection statistics behind Lucene's scores, and the document frequencies of some terms."""
        frequencies: list[int] = []
        # In pieces, because Java's heap may be smaller than the vocabulary of a large base.
        for start in range(0, max(len(terms), 1), _TERMS_AT_ONCE):
            some = " ".join(terms[start : start + _TERMS_AT_ONCE])
            packed = self._java.statistics(self._index, some).tostring()
            frequencies += np.frombuffer(packed, "<i4", offset=16 + 4 * _LENGTHS).tolist()
        captions, all_terms = np.frombuffer(packed, "<i8", 2).tolist()
        lengths = np.frombuffer(packed, "<i4", _LENGTHS, offset=16).tolist()
        return Statistics(captions, all_terms / max(captions, 1), lengths, frequencies)

    def explain(self, terms: Sequence[str], document: int) -> NDArray[np.float64]:
        """Return a row for each term: its score in a document, idf and tf; zeros for a term that it lacks."""
        packed = self._java.explain(self._index, " ".join(terms), document).tostring()
        return np.frombuffer(packed, "<f8").reshape(-1, 3)


def analyzed(analyzer: Any, text: str) -> list[str]:
    """Return the terms of a text by a Lucene analyzer."""
    terms: str = java_class("reimagen.Queries").terms(analyzer, text)
    return terms.split(" ") if terms else []


def _documents(packed: bytes) -> list[Document]:
    """Return the documents in the bytes that Java's `Index.pack` made."""
    (count,) = struct.unpack_from("<i", packed)
    # A third of NumPy's time for a few documents.
    columns = struct.unpack_from(f"<{count}i{count}f{count}i", packed, 4)
    found, end = [], 4 + 12 * count
    for number, score, length in zip(columns[:count], columns[count : 2 * count], columns[2 * count :], strict=True):
        start, end = end, end + length
        found.append(Document(number, score, packed[start:end]))
    return found


@lru_cache(_CACHED_FILTERS)
@in_java
def _java_filter(filters: Filters) -> Any:
    prefixes = [origin_and_rest(source) for source in _valid(filters.sources)]
    return java_class("reimagen.Queries").filter(
        _valid(filters.licenses),
        tuple(origin for origin, _ in prefixes),
        tuple(rest for _, rest in prefixes),
        filters.minimum_side,
        filters.safe_only,
        _valid(filters.exclude_ids),
    )


def _valid(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts with a question mark for each character that Unicode does not allow in a text."""
    return tuple(text.encode(errors="replace").decode() for text in texts)
