"""Ranking the captions of a whole base against each other, in compiled code, by the same scores as Lucene's.

The algorithm is MAXSCORE (H. Turtle and J. Flood, Query evaluation: strategies and optimizations, 1995), term by term.
Of a query's terms the rarest come first. What a caption scores by a term is added up for all captions that have it,
until the terms that are left can't make up for the score that as many captions as are wanted have already: no other
caption is looked at from there on. Of those that have been, the ones that can't come that far any more are struck out,
and once it costs less to score the others one by one than to go through the captions of another term, that is done.
Sums on the way are rounded as they come, so whatever is struck out misses by more than rounding; scores at the end are
Lucene's to the bit: each term's in 32 bits, added up in 64, where no order of adding loses anything.

Where captions must name what a query asks for, only those are looked at that have a term of the name: such terms come
first of all.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.index.bm25 import BM25Index, Relevance, required_terms
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
    opens: NDArray[np.bool_]
    """Of the terms: whether captions that have it are looked at."""
    sure: NDArray[np.bool_]
    """Of the queries: whether each caption that is looked at has what it must have."""
    needed_by: NDArray[np.uint64]
    """Of the terms: a bit for each alternative of what a caption must have that needs it; none is always fulfilled."""


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

    def search(self, queries: Sequence[str], k: int, relevance: Relevance) -> list[list[Hit]]:
        """What `BM25Index.search` finds for each of the queries, near-duplicates among it, many times faster.

        Args:
            queries: As `search` takes them.
            k: How many hits of each at most.
            relevance: See `BM25Index.search`.
        """
        groups = (queries[first : first + _GROUP] for first in range(0, len(queries), _GROUP))
        ranked: _Ranked | None = None
        hits = []
        for group in groups:
            # While this group is ranked, the pairs of the last one are read.
            begun = self._begin(group, k, relevance)
            hits += self._hits(ranked) if ranked else []
            ranked = begun
        return hits + (self._hits(ranked) if ranked else [])

    def _begin(self, queries: Sequence[str], k: int, relevance: Relevance) -> _Ranked:
        asked = self._queries(queries, relevance)
        found = np.full((len(queries), k), -1, np.int64)
        scores = np.zeros((len(queries), k), np.float32)

        def rank(first: int) -> None:
            last = min(first + _PIECE, len(queries))
            _rank(self._captions.terms, asked, first, last, *self._room(), found, scores)

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
        starts, terms, times, opens, needed_by = [0], list[int](), list[int](), list[bool](), list[int]()
        sure = list[bool]()
        for text in texts:
            counted = Counter(self._index.terms(text))
            known = sorted((self._numbers[term], count) for term, count in counted.items() if term in self._numbers)
            needed, opening, all_of_one = self._needed(text, relevance)
            sure.append(all_of_one)
            terms += [number for number, _ in known]
            times += [count for _, count in known]
            opens += [relevance == "any" or number in opening for number, _ in known]
            needed_by += [needed.get(number, 0) for number, _ in known]
            starts.append(len(terms))
        numbers = np.array(terms, np.int32)
        return Queries(
            np.array(starts),
            numbers,
            np.array(times, np.float32) * self._captions.terms.idf[numbers],
            np.array(opens, np.bool_),
            np.array(sure, np.bool_),
            np.array(needed_by, np.uint64),
        )

    def _needed(self, text: str, relevance: Relevance) -> tuple[dict[int, int], set[int], bool]:
        """Return which alternatives need a term, as bits, each alternative's rarest term, and whether that is all."""
        needed, opening, alone = dict[int, int](), set[int](), set[int]()
        for bit, alternative in enumerate(required_terms(self._index.entities(text).named, relevance)):
            if all(term in self._numbers for term in alternative):
                numbers = {self._numbers[term] for term in alternative}
                opening.add(min(numbers))
                alone |= numbers if len(numbers) == 1 else set()
                for number in numbers:
                    needed[number] = needed.get(number, 0) | 1 << bit
        return needed, opening, opening <= alone

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
    sums: NDArray[np.float32],
    seen: NDArray[np.uint32],
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Writes down for the queries first to last the best captions, as many as there is room for, and their scores."""
    depth = found.shape[1]
    best, best_scores, heap = np.empty(depth, np.uint32), np.empty(depth, np.float32), np.empty(depth, np.float32)
    for query in range(first, last):
        its = slice(queries.starts[query], queries.starts[query + 1])
        asked, weights, opens = queries.terms[its], queries.weights[its], queries.opens[its]
        sure, needed_by = queries.sure[query], queries.needed_by[its]
        count = _best(terms, asked, weights, opens, sure, needed_by, sums, seen, heap, best, best_scores)
        for position in range(count):
            found[query, position], scores[query, position] = best[position], best_scores[position]


@_compiled
def _best(
    terms: Terms,
    asked: NDArray[np.int32],
    weights: NDArray[np.float32],
    opens: NDArray[np.bool_],
    sure: bool,
    needed_by: NDArray[np.uint64],
    sums: NDArray[np.float32],
    seen: NDArray[np.uint32],
    heap: NDArray[np.float32],
    best: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Writes down the best captions, best first, and their scores; returns how many there are."""
    count, least, rest = _gather(terms, asked, weights, opens, sure, sums, seen, heap)
    kept = 0
    # Those whose sums are best are scored first, so that few of the others need to be.
    for promising in (True, False):
        for i in range(count):
            caption = seen[i]
            if (sums[caption] >= least) == promising and (
                kept < len(best) or sums[caption] + rest >= best_scores[kept - 1]
            ):
                score, fulfilled = _compare(terms, caption, asked, weights, needed_by)
                if sure or fulfilled:
                    kept = _insert(terms.places, caption, score, best, best_scores, kept)
    _strike_out(sums, seen, count, np.inf)
    return kept


@_compiled
def _gather(
    terms: Terms,
    asked: NDArray[np.int32],
    weights: NDArray[np.float32],
    opens: NDArray[np.bool_],
    sure: bool,
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
    for turn in range(2 * len(asked)):
        i = turn % len(asked)
        if opens[i] != (turn < len(asked)):
            continue
        holders = range(terms.term_starts[asked[i]], terms.term_starts[asked[i] + 1])
        adding = opens[i] and rest >= least
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
        if sure and (done >= rest or not adding):
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
    terms: Terms,
    caption: int,
    asked: NDArray[np.int32],
    weights: NDArray[np.float32],
    needed_by: NDArray[np.uint64],
) -> tuple[np.float32, bool]:
    """Lucene's score of a caption, and whether it has all that an alternative needs."""
    score, i = 0.0, 0
    alternatives, lacking = np.uint64(0), np.uint64(0)
    for at in range(terms.starts[caption], terms.starts[caption + 1]):
        term = terms.said[at].term
        while i < len(asked) and asked[i] < term:
            lacking |= needed_by[i]
            alternatives |= needed_by[i]
            i += 1
        if i < len(asked) and asked[i] == term:
            score += weights[i] - weights[i] / terms.said[at].divisor
            alternatives |= needed_by[i]
            i += 1
    for rest in range(i, len(asked)):
        lacking |= needed_by[rest]
        alternatives |= needed_by[rest]
    return np.float32(score), (alternatives & ~lacking) != 0


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
