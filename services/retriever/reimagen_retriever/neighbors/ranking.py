"""Rank all captions of a base against each other in compiled code, with the same scores as Lucene."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.index.bm25 import BM25Index, Relevance, required_terms
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.neighbors import maxscore
from reimagen_retriever.neighbors.captions import Captions
from reimagen_retriever.neighbors.maxscore import Buffers, Queries

_GROUP = 250
"""Number of queries that are prepared together and whose pairs are read together."""
_PIECE = 32
"""Number of queries that a thread ranks at a time. Between pieces it must wait for Python's lock."""


class _Ranked(NamedTuple):
    """The results, which are complete after iterating over `pieces`."""

    found: NDArray[np.int64]
    scores: NDArray[np.float32]
    pieces: Iterator[None]


class Ranking:
    """A search with many queries at once. Only one thread at a time may use it.

    Args:
        captions: The captions of the base.
        index: The open index of the base.
        pool: The threads that rank.
    """

    def __init__(self, captions: Captions, index: BM25Index, pool: ThreadPoolExecutor) -> None:
        self._captions = captions
        self._index = index
        self._pool = pool
        self._numbers = {term: number for number, term in enumerate(captions.vocabulary)}
        self._of_thread = threading.local()

    def search(self, queries: Sequence[str], k: int, relevance: Relevance) -> list[list[Hit]]:
        """Return the hits of `BM25Index.search` for each query, including near-duplicates, many times faster.

        Args:
            queries: The queries, as for `BM25Index.search`.
            k: Maximum number of hits per query.
            relevance: See `BM25Index.search`.
        """
        groups = (queries[first : first + _GROUP] for first in range(0, len(queries), _GROUP))
        ranked: _Ranked | None = None
        hits = []
        for group in groups:
            # Reads the pairs of the previous group while this group is ranked.
            started = self._begin(group, k, relevance)
            hits += self._hits(ranked) if ranked else []
            ranked = started
        return hits + (self._hits(ranked) if ranked else [])

    def _begin(self, queries: Sequence[str], k: int, relevance: Relevance) -> _Ranked:
        prepared = self._queries(queries, relevance)
        found = np.full((len(queries), k), -1, np.int64)
        scores = np.zeros((len(queries), k), np.float32)

        def rank(first: int) -> None:
            last = min(first + _PIECE, len(queries))
            maxscore.rank(self._captions.terms, prepared, first, last, self._buffers(), found, scores)

        return _Ranked(found, scores, self._pool.map(rank, range(0, len(queries), _PIECE)))

    def _hits(self, ranked: _Ranked) -> list[list[Hit]]:
        for _ in ranked.pieces:
            pass
        documents = np.where(ranked.found < 0, -1, self._captions.documents[ranked.found]).tolist()
        distinct = list({document for row in documents for document in row if document >= 0})
        pairs = dict(zip(distinct, self._index.read(distinct), strict=True))
        return [
            [Hit(pairs[document], score) for document, score in zip(row, its_scores, strict=True) if document >= 0]
            for row, its_scores in zip(documents, ranked.scores.tolist(), strict=True)
        ]

    def _queries(self, texts: Sequence[str], relevance: Relevance) -> Queries:
        starts, terms, times, opens, alternatives_of = [0], list[int](), list[int](), list[bool](), list[int]()
        all_relevant = list[bool]()
        for text in texts:
            counted = Counter(self._index.terms(text))
            known = sorted((self._numbers[term], count) for term, count in counted.items() if term in self._numbers)
            needed, opening, all_of_one = self._needed(text, relevance)
            all_relevant.append(all_of_one)
            terms += [number for number, _ in known]
            times += [count for _, count in known]
            opens += [relevance == "any" or number in opening for number, _ in known]
            alternatives_of += [needed.get(number, 0) for number, _ in known]
            starts.append(len(terms))
        numbers = np.array(terms, np.int32)
        return Queries(
            np.array(starts),
            numbers,
            np.array(times, np.float32) * self._captions.terms.idf[numbers],
            np.array(opens, np.bool_),
            np.array(all_relevant, np.bool_),
            np.array(alternatives_of, np.uint64),
        )

    def _needed(self, text: str, relevance: Relevance) -> tuple[dict[int, int], set[int], bool]:
        """Return the alternatives that need each term as bits, the rarest term of each, and whether it suffices."""
        needed, opening, alone = dict[int, int](), set[int](), set[int]()
        required = required_terms(self._index.entities(text).named, relevance) if relevance != "any" else []
        for bit, alternative in enumerate(required):
            if all(term in self._numbers for term in alternative):
                numbers = {self._numbers[term] for term in alternative}
                opening.add(min(numbers))
                alone |= numbers if len(numbers) == 1 else set()
                for number in numbers:
                    needed[number] = needed.get(number, 0) | 1 << bit
        return needed, opening, opening <= alone

    def _buffers(self) -> Buffers:
        if not hasattr(self._of_thread, "buffers"):
            captions, words = len(self._captions.documents), self._captions.terms.bitmaps.shape[1]
            self._of_thread.buffers = Buffers(
                np.empty(captions, np.float32),
                np.empty(captions, np.uint32),
                np.zeros(words, np.uint64),
                np.empty(words, np.uint64),
            )
        buffers: Buffers = self._of_thread.buffers
        return buffers
