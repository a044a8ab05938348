"""Find the captions with the best BM25 scores in compiled code, equal to Lucene's.

The algorithm is MAXSCORE (H. Turtle and J. Flood, Query evaluation: strategies and optimizations, 1995), term by term.
It processes the terms of a query by ascending document frequency and adds the partial scores of all captions with each
term. The most promising candidates are soon scored exactly, which bounds the k-th best score from below. Once the
remaining terms together cannot reach this bound, no new candidates are added, and candidates that can no longer reach
it are pruned. When scoring the remaining candidates one by one costs less than reading the postings of another term,
they are scored exactly. Partial sums are rounded, so that pruning allows for the rounding error. Final scores equal
Lucene's to the bit: the score of each term has 32 bits, and they are added in 64 bits, where no order of additions
loses precision.

If captions must name what a query asks for, only captions with a required term become candidates. A bitmap of them
decides, because required terms are often frequent: the rare terms that come first then find few candidates.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.neighbors.captions import Terms

_SCORE_COST = 60
"""Cost of scoring one caption exactly, as a number of postings."""
_SAMPLE = 100
"""Number of first candidates, those of the rarest terms, of which the most promising are scored early."""

_compiled = numba.njit(nogil=True)
_inlined = numba.njit(nogil=True, inline="always")


class Queries(NamedTuple):
    """Some queries, in arrays for compiled code."""

    starts: NDArray[np.int64]
    """Start of each query's terms, plus the end."""
    terms: NDArray[np.int32]
    """The terms of each query, rarest first."""
    weights: NDArray[np.float32]
    """For each term, its number of occurrences in the query times its idf."""
    opens: NDArray[np.bool_]
    """For each term, whether captions with it may become candidates. The others need another such term."""
    all_relevant: NDArray[np.bool_]
    """For each query, whether every candidate is relevant, so that no check is needed."""
    alternatives_of: NDArray[np.uint64]
    """For each term, one bit per required alternative that contains it. Without any, `all_relevant` is true."""


class _Query(NamedTuple):
    """One of the queries."""

    terms: NDArray[np.int32]
    weights: NDArray[np.float32]
    opens: NDArray[np.bool_]
    all_relevant: bool
    alternatives_of: NDArray[np.uint64]


class Buffers(NamedTuple):
    """The memory of a thread for compiled code."""

    sums: NDArray[np.float32]
    """For each candidate, the sum of its scores for the terms so far."""
    candidates: NDArray[np.uint32]
    is_candidate: NDArray[np.uint64]
    """One bit per caption, which fits into faster memory than the sums. None is set before and after a query."""
    allowed: NDArray[np.uint64]
    """One bit per caption: whether it has a required term."""


@_compiled
def rank(
    terms: Terms,
    queries: Queries,
    first: int,
    last: int,
    buffers: Buffers,
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Write the best captions of the queries first to last and their scores into `found` and `scores`."""
    depth = found.shape[1]
    best, best_scores = np.empty(depth, np.uint32), np.empty(depth, np.float32)
    for number in range(first, last):
        its = slice(queries.starts[number], queries.starts[number + 1])
        query = _Query(
            queries.terms[its],
            queries.weights[its],
            queries.opens[its],
            queries.all_relevant[number],
            queries.alternatives_of[its],
        )
        count = _best(terms, query, buffers, best, best_scores)
        for position in range(count):
            found[number, position], scores[number, position] = best[position], best_scores[position]


@_compiled
def _best(
    terms: Terms, query: _Query, buffers: Buffers, best: NDArray[np.uint32], best_scores: NDArray[np.float32]
) -> int:
    """Write the best captions and their scores, best first, and return their number."""
    sums, candidates = buffers.sums, buffers.candidates
    count, least, rest = _gather(terms, query, buffers, best, best_scores)
    filled = 0
    # Candidates with the best sums are scored first, so that few of the others need exact scores.
    for promising in (True, False):
        for i in range(count):
            caption = candidates[i]
            if (sums[caption] >= least) == promising and (
                filled < len(best) or sums[caption] + rest >= best_scores[filled - 1]
            ):
                score, relevant = _compare(terms, caption, query)
                if relevant:
                    filled = _insert(terms.id_ranks, caption, score, best, best_scores, filled)
    _prune(buffers, count, np.inf)
    return filled


@_compiled
def _gather(
    terms: Terms, query: _Query, buffers: Buffers, best: NDArray[np.uint32], best_scores: NDArray[np.float32]
) -> tuple[int, float, float]:
    """List candidates, which include all of the best captions, with the sums of their first terms.

    Returns:
        The number of candidates, a lower bound of the k-th best score, and the most that a score can exceed its sum.
    """
    sums, candidates, is_candidate, allowed = buffers
    rest, rounding, done, opening = 0.0, 0.0, 0.0, 0
    for i in range(len(query.terms)):
        rest += query.weights[i] * terms.greatest_share[query.terms[i]]
        rounding += query.weights[i] * len(query.terms) * 2.0**-22
        opening = i + 1 if query.opens[i] else opening
    rest += rounding
    all_allowed = query.opens[:opening].all()
    if not all_allowed:
        _allow(terms, query, allowed)
    least, count = -1.0, 0
    for i in range(len(query.terms)):
        term, weight = query.terms[i], query.weights[i]
        postings = range(terms.term_starts[term], terms.term_starts[term + 1])
        adding = i < opening and rest >= least
        if not adding:
            count = _prune(buffers, count, least - rest)
            if count * _SCORE_COST <= len(postings):
                break
        rest -= weight * terms.greatest_share[term]
        for at in postings:
            caption, score = terms.postings[at].caption, weight * terms.postings[at].share
            if _has(is_candidate, caption):
                sums[caption] += score
            elif adding and score + rest >= least and (all_allowed or _has(allowed, caption)):
                _set(is_candidate, caption)
                sums[caption] = score
                candidates[count] = caption
                count += 1
        done += weight * terms.greatest_share[term]
        if done >= rest or not adding:
            least = max(least, _kth_best(terms, query, buffers, min(count, _SAMPLE + len(best)), best, best_scores))
    return count, least, rest


@_compiled
def _allow(terms: Terms, query: _Query, allowed: NDArray[np.uint64]) -> None:
    """Set the bits of the captions with an opening term, and only these."""
    allowed[:] = 0
    frequent = len(terms.greatest_share) - len(terms.bitmaps)
    for i in range(len(query.terms)):
        term = query.terms[i]
        if query.opens[i] and term >= frequent:
            for word in range(len(allowed)):
                allowed[word] |= terms.bitmaps[term - frequent, word]
        elif query.opens[i]:
            for at in range(terms.term_starts[term], terms.term_starts[term + 1]):
                _set(allowed, terms.postings[at].caption)


@_inlined
def _has(bits: NDArray[np.uint64], number: int) -> bool:
    return bool((bits[number >> 6] >> np.uint64(number & 63)) & np.uint64(1))


@_inlined
def _set(bits: NDArray[np.uint64], number: int) -> None:
    bits[number >> 6] |= np.uint64(1) << np.uint64(number & 63)


@_compiled
def _prune(buffers: Buffers, count: int, least: float) -> int:
    """Remove the candidates with sums below `least` and return the number of the others."""
    sums, candidates, is_candidate, _ = buffers
    remaining = 0
    for i in range(count):
        caption = candidates[i]
        if sums[caption] >= least:
            candidates[remaining] = caption
            remaining += 1
        else:
            is_candidate[caption >> 6] &= ~(np.uint64(1) << np.uint64(caption & 63))
    return remaining


@_compiled
def _kth_best(
    terms: Terms,
    query: _Query,
    buffers: Buffers,
    count: int,
    best: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> float:
    """Return a lower bound of the k-th best score, from the candidates with the best sums, or -1 if there are fewer.

    `best` and `best_scores` are overwritten.
    """
    filled = 0
    for i in range(count):
        caption = buffers.candidates[i]
        filled = _insert(terms.id_ranks, caption, buffers.sums[caption], best, best_scores, filled)
    least = np.inf if filled == len(best) else -1.0
    for i in range(filled):
        score, relevant = _compare(terms, best[i], query)
        least = min(least, float(score)) if relevant else -1.0
    return least


@_inlined
def _compare(terms: Terms, caption: int, query: _Query) -> tuple[np.float32, bool]:
    """Return Lucene's score of a caption, and whether it is relevant: whether it has all terms of an alternative."""
    query_terms, weights, alternatives_of = query.terms, query.weights, query.alternatives_of
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
    return np.float32(score), query.all_relevant or (alternatives & ~lacking) != 0


@_inlined
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
