"""Rank all captions of a base against each other in compiled code, with the same scores as Lucene.

The algorithm is MAXSCORE (H. Turtle and J. Flood, Query evaluation: strategies and optimizations, 1995), term by term.
It processes the terms of a query by ascending document frequency and adds the partial scores of all captions with each
term. Once the remaining terms together cannot reach the current k-th best score, no new candidates are added, and
candidates that can no longer reach that score are pruned. When scoring the remaining candidates one by one costs less
than reading the postings of another term, they are scored exactly. Partial sums are rounded, so that pruning allows for
the rounding error. Final scores equal Lucene's to the bit: the score of each term has 32 bits, and they are added in 64
bits, where no order of additions loses precision.

If captions must name what a query asks for, only captions with a required term become candidates. These terms are
processed first.
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
"""Number of queries that are prepared together and whose pairs are read together."""
_PIECE = 32
"""Number of queries that a thread ranks at a time. Between pieces it must wait for Python's lock."""
_SCORE_COST = 60
"""Cost of scoring one caption exactly, as a number of postings."""
_SAMPLE = 2_000
"""Number of first candidates, those of the rarest terms, from which the k-th best sum is estimated."""
_UNSET = np.float32(-1)

_compiled = numba.njit(nogil=True)


class Queries(NamedTuple):
    """Some queries, in arrays for compiled code."""

    starts: NDArray[np.int64]
    """Start of each query's terms, plus the end."""
    terms: NDArray[np.int32]
    """The terms of each query, rarest first."""
    weights: NDArray[np.float32]
    """For each term, its number of occurrences in the query times its idf."""
    opens: NDArray[np.bool_]
    """For each term, whether captions with it become candidates."""
    all_relevant: NDArray[np.bool_]
    """For each query, whether every candidate is relevant, so that no check is needed."""
    alternatives_of: NDArray[np.uint64]
    """For each term, one bit per required alternative that contains it. Without any, `all_relevant` is true."""


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
            _rank(self._captions.terms, prepared, first, last, *self._buffers(), found, scores)

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
        for bit, alternative in enumerate(required_terms(self._index.entities(text).named, relevance)):
            if all(term in self._numbers for term in alternative):
                numbers = {self._numbers[term] for term in alternative}
                opening.add(min(numbers))
                alone |= numbers if len(numbers) == 1 else set()
                for number in numbers:
                    needed[number] = needed.get(number, 0) | 1 << bit
        return needed, opening, opening <= alone

    def _buffers(self) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """Return the thread's sums, all of them unset, and its list of candidates."""
        if not hasattr(self._of_thread, "buffers"):
            captions = len(self._captions.documents)
            self._of_thread.buffers = np.full(captions, _UNSET), np.empty(captions, np.uint32)
        buffers: tuple[NDArray[np.float32], NDArray[np.uint32]] = self._of_thread.buffers
        return buffers


@_compiled
def _rank(
    terms: Terms,
    queries: Queries,
    first: int,
    last: int,
    sums: NDArray[np.float32],
    candidates: NDArray[np.uint32],
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Write the best captions of the queries first to last and their scores into `found` and `scores`."""
    depth = found.shape[1]
    best, best_scores, heap = np.empty(depth, np.uint32), np.empty(depth, np.float32), np.empty(depth, np.float32)
    for query in range(first, last):
        its = slice(queries.starts[query], queries.starts[query + 1])
        query_terms, weights, opens = queries.terms[its], queries.weights[its], queries.opens[its]
        all_relevant, alternatives_of = queries.all_relevant[query], queries.alternatives_of[its]
        count = _best(
            terms, query_terms, weights, opens, all_relevant, alternatives_of, sums, candidates, heap, best, best_scores
        )
        for position in range(count):
            found[query, position], scores[query, position] = best[position], best_scores[position]


@_compiled
def _best(
    terms: Terms,
    query_terms: NDArray[np.int32],
    weights: NDArray[np.float32],
    opens: NDArray[np.bool_],
    all_relevant: bool,
    alternatives_of: NDArray[np.uint64],
    sums: NDArray[np.float32],
    candidates: NDArray[np.uint32],
    heap: NDArray[np.float32],
    best: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Write the best captions and their scores, best first, and return their number."""
    count, least, rest = _gather(terms, query_terms, weights, opens, all_relevant, sums, candidates, heap)
    filled = 0
    # Candidates with the best sums are scored first, so that few of the others need exact scores.
    for promising in (True, False):
        for i in range(count):
            caption = candidates[i]
            if (sums[caption] >= least) == promising and (
                filled < len(best) or sums[caption] + rest >= best_scores[filled - 1]
            ):
                score, fulfilled = _compare(terms, caption, query_terms, weights, alternatives_of)
                if all_relevant or fulfilled:
                    filled = _insert(terms.id_ranks, caption, score, best, best_scores, filled)
    _prune(sums, candidates, count, np.inf)
    return filled


@_compiled
def _gather(
    terms: Terms,
    query_terms: NDArray[np.int32],
    weights: NDArray[np.float32],
    opens: NDArray[np.bool_],
    all_relevant: bool,
    sums: NDArray[np.float32],
    candidates: NDArray[np.uint32],
    heap: NDArray[np.float32],
) -> tuple[int, float, float]:
    """List candidates, which include all of the best captions, with the sums of their first terms.

    Returns:
        The number of candidates, a lower bound of the k-th best score, and the most that a score can exceed its sum.
    """
    rest, rounding, done = 0.0, 0.0, 0.0
    for i in range(len(query_terms)):
        rest += weights[i] * terms.greatest_share[query_terms[i]]
        rounding += weights[i] * len(query_terms) * 2.0**-22
    rest += rounding
    least, count = -1.0, 0
    for turn in range(2 * len(query_terms)):
        i = turn % len(query_terms)
        if opens[i] != (turn < len(query_terms)):
            continue
        postings = range(terms.term_starts[query_terms[i]], terms.term_starts[query_terms[i] + 1])
        adding = opens[i] and rest >= least
        if not adding:
            count = _prune(sums, candidates, count, least - rest)
            if count * _SCORE_COST <= len(postings):
                break
        for at in postings:
            caption, score = terms.postings[at].caption, weights[i] * terms.postings[at].share
            if sums[caption] >= 0:
                sums[caption] += score
            elif adding:
                sums[caption] = score
                candidates[count] = caption
                count += 1
        bound = weights[i] * terms.greatest_share[query_terms[i]]
        rest, done = rest - bound, done + bound
        if all_relevant and (done >= rest or not adding):
            least = max(least, _kth_best_sum(sums, candidates, min(count, _SAMPLE + len(heap)), heap))
    return count, least, rest


@_compiled
def _prune(sums: NDArray[np.float32], candidates: NDArray[np.uint32], count: int, least: float) -> int:
    """Remove the candidates with sums below `least` and return the number of the others."""
    remaining = 0
    for i in range(count):
        if sums[candidates[i]] >= least:
            candidates[remaining] = candidates[i]
            remaining += 1
        else:
            sums[candidates[i]] = _UNSET
    return remaining


@_compiled
def _kth_best_sum(
    sums: NDArray[np.float32], candidates: NDArray[np.uint32], count: int, heap: NDArray[np.float32]
) -> float:
    """Return the smallest of the best sums that fit into the heap, or -1 if there are fewer."""
    heap[:] = _UNSET
    for i in range(count):
        value = sums[candidates[i]]
        if value > heap[0]:  # Replace the smallest element, the root, and sift the value down.
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
    query_terms: NDArray[np.int32],
    weights: NDArray[np.float32],
    alternatives_of: NDArray[np.uint64],
) -> tuple[np.float32, bool]:
    """Return Lucene's score of a caption, and whether the caption has all terms of an alternative."""
    score, i = 0.0, 0
    alternatives, lacking = np.uint64(0), np.uint64(0)
    for at in range(terms.starts[caption], terms.starts[caption + 1]):
        term = terms.forward[at].term
        while i < len(query_terms) and query_terms[i] < term:
            lacking |= alternatives_of[i]
            alternatives |= alternatives_of[i]
            i += 1
        if i < len(query_terms) and query_terms[i] == term:
            score += weights[i] - weights[i] / terms.forward[at].divisor
            alternatives |= alternatives_of[i]
            i += 1
    for rest in range(i, len(query_terms)):
        lacking |= alternatives_of[rest]
        alternatives |= alternatives_of[rest]
    return np.float32(score), (alternatives & ~lacking) != 0


@_compiled
def _insert(
    id_ranks: NDArray[np.int32],
    caption: int,
    score: np.float32,
    best: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
    filled: int,
) -> int:
    """Insert a caption among the best, if it belongs there, and return their number."""
    at = filled
    while at > 0 and (
        score > best_scores[at - 1] or (score == best_scores[at - 1] and id_ranks[caption] < id_ranks[best[at - 1]])
    ):
        at -= 1
    if at == len(best):
        return filled
    filled = min(filled + 1, len(best))
    for i in range(filled - 1, at, -1):
        best[i], best_scores[i] = best[i - 1], best_scores[i - 1]
    best[at], best_scores[at] = caption, score
    return filled
