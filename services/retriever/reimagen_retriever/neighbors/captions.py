"""All captions of a base in memory, for `ranking`: a forward index and an inverted index of their terms.

The captions are read from the base and analyzed again. The indexes also hold the factors of Lucene's scores, computed
from Lucene's statistics by the operations of its `BM25Similarity`, in the same order and with the same rounding. A
caption of ten terms takes about 180 bytes.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reimagen_common.progress import progress_bar
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.lucene import Statistics

_AT_ONCE = 1_000
_FREQUENT = 64
"""A term is frequent if one of this many captions has it: its bitmap then takes less memory than its postings."""


class Terms(NamedTuple):
    """The terms of the captions, in arrays for compiled code.

    Captions are numbered in the order of the base, terms by ascending document frequency.
    """

    starts: NDArray[np.int64]
    """Start of each caption's entries in `forward`, plus the end."""
    forward: NDArray[Any]
    """The forward index: for each caption its `term`s with Lucene's `divisor`. A weight w scores w - w / divisor."""
    term_starts: NDArray[np.int64]
    """Start of each term's entries in `postings`, plus the end."""
    postings: NDArray[Any]
    """The inverted index: for each term its `caption`s with the approximate `share` of the weight that they score."""
    greatest_share: NDArray[np.float32]
    """Maximum share of each term over all captions."""
    idf: NDArray[np.float32]
    """Weight of each term in a query that contains it once."""
    bitmaps: NDArray[np.uint64]
    """A row for each of the most frequent terms, with one bit per caption: whether the caption has the term."""
    id_ranks: NDArray[np.int32]
    """Rank of each caption in the byte order of the ids, which breaks ties."""


@dataclass(frozen=True)
class Captions:
    """All captions of a base."""

    documents: NDArray[np.int64]
    """The document numbers of the captions in the index."""
    vocabulary: list[str]
    """The terms by their numbers."""
    terms: Terms


def read_captions(index: BM25Index, documents: Sequence[int]) -> Captions:
    """Read all captions of a base and show the progress. A million captions take half a minute and a gigabyte.

    Args:
        index: The index of the base.
        documents: The result of `index.in_order`.
    """
    numbers: dict[str, int] = {}
    term_numbers, lengths, ids = array("i"), array("i"), list[bytes]()
    with progress_bar(len(documents), "reading captions", "pairs") as progress:
        for first in range(0, len(documents), _AT_ONCE):
            for pair in index.read(documents[first : first + _AT_ONCE]):
                terms = index.terms(pair.caption)
                term_numbers.extend([numbers.setdefault(term, len(numbers)) for term in terms])
                lengths.append(len(terms))
                ids.append(pair.id.encode())
                progress.update()
    vocabulary = list(numbers)
    statistics = index.statistics(vocabulary)
    frequencies = np.array(statistics.frequencies, np.int64)
    rarest = np.argsort(frequencies, kind="stable")
    renumbered = np.empty(len(rarest), np.int32)
    renumbered[rarest] = np.arange(len(rarest))
    return Captions(
        np.array(documents, np.int64),
        [vocabulary[number] for number in rarest],
        _terms(
            index,
            statistics,
            frequencies[rarest],
            renumbered[np.array(term_numbers, np.int32)],
            np.array(lengths, np.int64),
            ids,
        ),
    )


def _terms(
    index: BM25Index,
    statistics: Statistics,
    frequencies: NDArray[np.int64],
    term_numbers: NDArray[np.int32],
    lengths: NDArray[np.int64],
    ids: Sequence[bytes],
) -> Terms:
    captions, terms, times = _counted(term_numbers, lengths, len(frequencies))
    divisors = np.float32(1) + times.astype(np.float32) * _inverse_norms(index, statistics, lengths)[captions]
    by_term = np.argsort(terms, kind="stable")
    term_starts = _starts(terms[by_term], len(frequencies))
    shares = (1 - 1 / divisors)[by_term]
    with_term = captions[by_term].astype(np.uint32)
    id_ranks = np.empty(len(ids), np.int32)
    id_ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return Terms(
        starts=_starts(captions, len(lengths)),
        forward=_table(term=terms, divisor=divisors),
        term_starts=term_starts,
        postings=_table(caption=with_term, share=shares),
        greatest_share=np.maximum.reduceat(shares, term_starts[:-1]),
        idf=np.log(1 + (statistics.captions - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32),
        bitmaps=_bitmaps(with_term, term_starts, len(lengths)),
        id_ranks=id_ranks,
    )


def _counted(
    term_numbers: NDArray[np.int32], lengths: NDArray[np.int64], vocabulary: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the captions, their distinct terms and the counts of these, sorted by caption and term."""
    both = np.repeat(np.arange(len(lengths)) * vocabulary, lengths) + term_numbers
    both, times = np.unique(both, return_counts=True)
    captions, terms = np.divmod(both, max(vocabulary, 1))
    return captions, terms.astype(np.int32), times


def _inverse_norms(index: BM25Index, statistics: Statistics, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return Lucene's factor of the term frequency for each caption. Lucene rounds lengths down to fit one byte."""
    k1, b = np.float32(index.analysis.k1), np.float32(index.analysis.b)
    known = np.array(statistics.known_lengths)
    # The division is by zero if k1 is 0 or there are no terms.
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = k1 * ((np.float32(1) - b) + b * known.astype(np.float32) / np.float32(statistics.average_length))
        inverse = np.float32(1) / norms
    return np.asarray(inverse[np.searchsorted(known, lengths, "right") - 1])


def _bitmaps(with_term: NDArray[np.uint32], term_starts: NDArray[np.int64], captions: int) -> NDArray[np.uint64]:
    """Return the bitmaps of the frequent terms. `with_term` has the captions of each term, rarest term first."""
    words = -(-captions // 64)
    frequent = np.flatnonzero(np.diff(term_starts) * _FREQUENT >= captions)
    bitmaps = np.zeros((len(frequent), words), np.uint64)
    for row, term in enumerate(frequent):
        having = np.zeros(64 * words, np.bool_)
        having[with_term[term_starts[term] : term_starts[term + 1]]] = True
        bitmaps[row] = np.packbits(having, bitorder="little").view("<u8")
    return bitmaps


def _starts(numbers: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the start of each of the numbers 0 to count in sorted numbers."""
    return np.searchsorted(numbers, np.arange(count + 1))


def _table(**columns: NDArray[Any]) -> NDArray[Any]:
    """Return a structured array of the columns, whose fields of a row share a cache line."""
    table = np.empty(len(next(iter(columns.values()))), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table
