"""Ranking the captions of a whole base against each other, in compiled code, by the same scores as Lucene's.

The algorithm is MAXSCORE (H. Turtle and J. Flood, Query evaluation: strategies and optimizations, 1995), term by term.
Of a query's terms the rarest come first. What a caption scores by a term is added up for all captions that have it,
until the terms that are left can't make up for the score that as many captions as are wanted have already: no other
caption is looked at from there on. Of those that have been, the ones that can't come that far any more are struck out,
and once it costs less to score the others one by one than to go through the captions of another term, that is done.
Sums on the way are rounded as they come, so whatever is struck out misses by more than rounding; scores at the end are
Lucene's to the bit: each term's in 32 bits, added up in 64, where no order of adding loses anything.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.index.bm25 import BM25Index, search_depth
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.neighbors.captions import Captions, Terms

_GROUP = 250
"""Queries that are prepared, and whose pairs are read, together."""
_PIECE = 32
"""Queries that a thread ranks before it takes others, for which it waits until Python lets it."""
_SCORE_COST = 60
"""How many captions of a term can be gone through while one caption is scored by itself."""
_SAMPLE = 2_000
"""Among so many of the captions seen first, those of the rarest terms, the best sums are looked for."""
_UNSEEN = np.float32(-1)

_compiled = numba.njit(nogil=True)


class Queries(NamedTuple):
    """Some queries, in arrays that compiled code reads."""

    starts: NDArray[np.int64]
    """Where a query's terms start; one more than there are queries."""
    terms: NDArray[np.int32]
    """Of each query in order, the rarest first."""
    weights: NDArray[np.float32]
    """Of the terms: the times that the query has it, times its idf."""
    information: NDArray[np.float64]
    """Of a query's terms, those that no caption has among them."""


class _Ranked(NamedTuple):
    """What is found, once all pieces are ranked."""

    found: NDArray[np.int64]
    scores: NDArray[np.float32]
    pieces: Iterator[None]


class Ranking:
    """Searches with many queries at once; used by one thread at a time.

    Args:
        captions: Of the base.
        index: Of the base, open.
        pool: What ranks.
    """

    def __init__(self, captions: Captions, index: BM25Index, pool: ThreadPoolExecutor) -> None:
        self._captions = captions
        self._index = index
        self._pool = pool
        self._numbers = {term: number for number, term in enumerate(captions.vocabulary)}
        self._of_thread = threading.local()

    def search(self, queries: Sequence[str], k: int, minimum_overlap: float) -> list[list[Hit]]:
        """What `BM25Index.search` finds for each of the queries, near-duplicates among it, many times faster.

        Args:
            queries: As `search` takes them.
            k: How many hits of each at most.
            minimum_overlap: See `BM25Index.search`.
        """
        groups = (queries[first : first + _GROUP] for first in range(0, len(queries), _GROUP))
        ranked: _Ranked | None = None
        hits = []
        for group in groups:
            # While this group is ranked, the pairs of the last one are read.
            begun = self._begin(group, k, minimum_overlap)
            hits += self._hits(ranked) if ranked else []
            ranked = begun
        return hits + (self._hits(ranked) if ranked else [])

    def _begin(self, queries: Sequence[str], k: int, minimum_overlap: float) -> _Ranked:
        asked = self._queries(queries)
        depth = search_depth(k) if minimum_overlap else k
        found = np.full((len(queries), k), -1, np.int64)
        scores = np.zeros((len(queries), k), np.float32)

        def rank(first: int) -> None:
            last = min(first + _PIECE, len(queries))
            _rank(self._captions.terms, asked, first, last, depth, minimum_overlap, *self._room(), found, scores)

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

    def _queries(self, texts: Sequence[str]) -> Queries:
        asked = [Counter(self._index.terms(text)) for text in texts]
        known = [
            sorted((self._numbers[term], times) for term, times in terms.items() if term in self._numbers)
            for terms in asked
        ]
        lengths = np.array([len(terms) for terms in known])
        table = np.array([each for terms in known for each in terms], np.int32).reshape(-1, 2)
        terms, times = table[:, 0].copy(), table[:, 1].astype(np.float32)
        of_query = np.repeat(np.arange(len(known)), lengths)
        unknown = np.array([len(terms) for terms in asked]) - lengths
        information = np.bincount(of_query, self._captions.terms.information[terms], len(known))
        return Queries(
            np.concatenate([[0], np.cumsum(lengths)]),
            terms,
            times * self._captions.terms.idf[terms],
            information + unknown * self._captions.information_of_unknown,
        )

    def _room(self) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """A thread's sums, all unseen, and its list of captions seen."""
        if not hasattr(self._of_thread, "room"):
            captions = len(self._captions.documents)
            self._of_thread.room = np.full(captions, _UNSEEN), np.empty(captions, np.uint32)
        room: tuple[NDArray[np.float32], NDArray[np.uint32]] = self._of_thread.room
        return room


@_compiled
def _rank(
    terms: Terms,
    queries: Queries,
    first: int,
    last: int,
    depth: int,
    minimum_overlap: float,
    sums: NDArray[np.float32],
    seen: NDArray[np.uint32],
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Writes down for the queries first to last the captions found among the best `depth`, and their scores."""
    best, best_scores, heap = np.empty(depth, np.uint32), np.empty(depth, np.float32), np.empty(depth, np.float32)
    for query in range(first, last):
        its = slice(queries.starts[query], queries.starts[query + 1])
        asked, weights = queries.terms[its], queries.weights[its]
        count = _best(terms, asked, weights, sums, seen, heap, best, best_scores)
        kept = 0
        for place in range(count):
            if kept == found.shape[1]:
                break
            _, common = _compare(terms, best[place], asked, weights)
            least = min(queries.information[query], terms.caption_information[best[place]])
            if common / least >= minimum_overlap:
                found[query, kept], scores[query, kept] = best[place], best_scores[place]
                kept += 1


@_compiled
def _best(
    terms: Terms,
    asked: NDArray[np.int32],
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
    seen: NDArray[np.uint32],
    heap: NDArray[np.float32],
    best: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Writes down the best captions, best first, and their scores; returns how many there are."""
    count, least, rest = _gather(terms, asked, weights, sums, seen, heap)
    kept = 0
    # Those whose sums are best are scored first, so that few of the others need to be.
    for promising in (True, False):
        for i in range(count):
            caption = seen[i]
            if (sums[caption] >= least) == promising and (
                kept < len(best) or sums[caption] + rest >= best_scores[kept - 1]
            ):
                score, _ = _compare(terms, caption, asked, weights)
                kept = _insert(terms.places, caption, score, best, best_scores, kept)
    _strike_out(sums, seen, count, np.inf)
    return kept


@_compiled
def _gather(
    terms: Terms,
    asked: NDArray[np.int32],
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
    seen: NDArray[np.uint32],
    heap: NDArray[np.float32],
) -> tuple[int, float, float]:
    """Lists captions, all of the best among them, with their sums by the first of the terms.

    Returns:
        How many they are, what sum is among the best of them, and how much more than its sum a score can be.
    """
    rest, rounding, done = 0.0, 0.0, 0.0
    for i in range(len(asked)):
        rest += weights[i] * terms.greatest_share[asked[i]]
        rounding += weights[i] * len(asked) * 2.0**-22
    rest += rounding
    least, count = -1.0, 0
    for i in range(len(asked)):
        holders = range(terms.term_starts[asked[i]], terms.term_starts[asked[i] + 1])
        adding = rest >= least
        if not adding:
            count = _strike_out(sums, seen, count, least - rest)
            if count * _SCORE_COST <= len(holders):
                break
        for at in holders:
            caption, score = terms.held[at].caption, weights[i] * terms.held[at].share
            if sums[caption] >= 0:
                sums[caption] += score
            elif adding:
                sums[caption] = score
                seen[count] = caption
                count += 1
        bound = weights[i] * terms.greatest_share[asked[i]]
        rest, done = rest - bound, done + bound
        if done >= rest:
            least = max(least, _last_of_best(sums, seen, min(count, _SAMPLE + len(heap)), heap))
    return count, least, rest


@_compiled
def _strike_out(sums: NDArray[np.float32], seen: NDArray[np.uint32], count: int, least: float) -> int:
    """Forgets those of the captions seen whose sums are less; returns how many are left."""
    kept = 0
    for i in range(count):
        if sums[seen[i]] >= least:
            seen[kept] = seen[i]
            kept += 1
        else:
            sums[seen[i]] = _UNSEEN
    return kept


@_compiled
def _last_of_best(sums: NDArray[np.float32], seen: NDArray[np.uint32], count: int, heap: NDArray[np.float32]) -> float:
    """The least of the best sums, as many as the heap has room for; -1 if there are not so many."""
    heap[:] = _UNSEEN
    for i in range(count):
        value = sums[seen[i]]
        if value > heap[0]:  # which is the least; it sinks until what is below is no less.
            at, child = 0, 1
            while child < len(heap):
                if child + 1 < len(heap) and heap[child + 1] < heap[child]:
                    child += 1
                if heap[child] >= value:
                    break
                heap[at] = heap[child]
                at, child = child, 2 * child + 1
            heap[at] = value
    return float(heap[0])


@_compiled
def _compare(
    terms: Terms, caption: int, asked: NDArray[np.int32], weights: NDArray[np.float32]
) -> tuple[np.float32, float]:
    """Lucene's score of a caption, and the information that it has in common with the query."""
    score, common, i = 0.0, 0.0, 0
    for at in range(terms.starts[caption], terms.starts[caption + 1]):
        term = terms.said[at].term
        while i < len(asked) and asked[i] < term:
            i += 1
        if i < len(asked) and asked[i] == term:
            score += weights[i] - weights[i] / terms.said[at].divisor
            common += terms.information[term]
    return np.float32(score), common


@_compiled
def _insert(
    places: NDArray[np.int32],
    caption: int,
    score: np.float32,
    best: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
    kept: int,
) -> int:
    """Puts a caption where it belongs among the best, if it does; returns how many there are."""
    at = kept
    while at > 0 and (
        score > best_scores[at - 1] or (score == best_scores[at - 1] and places[caption] < places[best[at - 1]])
    ):
        at -= 1
    if at == len(best):
        return kept
    kept = min(kept + 1, len(best))
    for i in range(kept - 1, at, -1):
        best[i], best_scores[i] = best[i - 1], best_scores[i - 1]
    best[at], best_scores[at] = caption, score
    return kept
