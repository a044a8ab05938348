"""All captions of a base in memory, for `ranking`: which terms a caption has, and which captions have a term.

They are read out of the base and taken apart once more; beside them stand the factors of Lucene's scores, computed from
Lucene's own statistics by the operations of its `BM25Similarity`, in the order and with the rounding that it has. For a
caption of ten terms that is about 180 bytes.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reimagen_common.progress import progress_bar
from reimagen_retriever.index.bm25 import BM25Index, Statistics

_AT_ONCE = 1_000


class Terms(NamedTuple):
    """The captions' terms, in arrays that compiled code reads.

    Captions are numbered in the order of the base, terms from the one that the fewest captions have.
    """

    starts: NDArray[np.int64]
    """Where a caption's terms start in `said`; one more than there are captions."""
    said: NDArray[Any]
    """Of each caption, in order, its `term`s, and Lucene's `divisor`: a term of that weight scores w - w / divisor."""
    term_starts: NDArray[np.int64]
    """Where a term's captions start in `held`."""
    held: NDArray[Any]
    """Of each term, in order, the `caption`s that have it, and about which `share` of the term's weight it scores."""
    greatest_share: NDArray[np.float32]
    """Of a term in any caption."""
    idf: NDArray[np.float32]
    """A term's weight in a query that has it once."""
    places: NDArray[np.int32]
    """Of captions in the order of their ids' bytes, which is that of equal scores."""


@dataclass(frozen=True)
class Captions:
    """What `read_captions` reads."""

    documents: NDArray[np.int64]
    """The captions' numbers in the index."""
    vocabulary: list[str]
    """The terms, by their numbers."""
    terms: Terms


def read_captions(index: BM25Index, documents: Sequence[int]) -> Captions:
    """Reads all captions of a base; about half a minute and a gigabyte for a million; shows its progress.

    Args:
        index: Of the base.
        documents: What `index.in_order` returns.
    """
    numbers: dict[str, int] = {}
    said, lengths, ids = array("i"), array("i"), list[bytes]()
    with progress_bar(len(documents), "reading captions", "pairs") as progress:
        for first in range(0, len(documents), _AT_ONCE):
            for pair in index.read(documents[first : first + _AT_ONCE]):
                terms = index.terms(pair.caption)
                said.extend([numbers.setdefault(term, len(numbers)) for term in terms])
                lengths.append(len(terms))
                ids.append(pair.id.encode())
                progress.update()
    vocabulary = list(numbers)
    statistics = index.statistics(vocabulary)
    frequencies = np.array(statistics.frequencies, np.int64)
    rarest = np.argsort(frequencies, kind="stable")
    its_number = np.empty(len(rarest), np.int32)
    its_number[rarest] = np.arange(len(rarest))
    return Captions(
        np.array(documents, np.int64),
        [vocabulary[number] for number in rarest],
        _terms(
            index,
            statistics,
            frequencies[rarest],
            its_number[np.array(said, np.int32)],
            np.array(lengths, np.int64),
            ids,
        ),
    )


def _terms(
    index: BM25Index,
    statistics: Statistics,
    frequencies: NDArray[np.int64],
    said: NDArray[np.int32],
    lengths: NDArray[np.int64],
    ids: Sequence[bytes],
) -> Terms:
    captions, terms, times = _counted(said, lengths, len(frequencies))
    divisors = np.float32(1) + times.astype(np.float32) * _inverse_norms(index, statistics, lengths)[captions]
    by_term = np.argsort(terms, kind="stable")
    term_starts = _starts(terms[by_term], len(frequencies))
    shares = (1 - 1 / divisors)[by_term]
    places = np.empty(len(ids), np.int32)
    places[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return Terms(
        starts=_starts(captions, len(lengths)),
        said=_table(term=terms, divisor=divisors),
        term_starts=term_starts,
        held=_table(caption=captions[by_term].astype(np.uint32), share=shares),
        greatest_share=np.maximum.reduceat(shares, term_starts[:-1]),
        idf=np.log(1 + (statistics.captions - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32),
        places=places,
    )


def _counted(
    said: NDArray[np.int32], lengths: NDArray[np.int64], vocabulary: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Each caption with each of its terms, in order, and how often it has it."""
    both = np.repeat(np.arange(len(lengths)) * vocabulary, lengths) + said
    both, times = np.unique(both, return_counts=True)
    captions, terms = np.divmod(both, max(vocabulary, 1))
    return captions, terms.astype(np.int32), times


def _inverse_norms(index: BM25Index, statistics: Statistics, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """What Lucene multiplies the times with that a caption has a term; it knows lengths by a byte, rounded down."""
    k1, b = np.float32(index.analysis.k1), np.float32(index.analysis.b)
    known = np.array(statistics.known_lengths)
    # Without k1, how often doesn't count; without any term, nothing does.
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = k1 * ((np.float32(1) - b) + b * known.astype(np.float32) / np.float32(statistics.average_length))
        inverse = np.float32(1) / norms
    return np.asarray(inverse[np.searchsorted(known, lengths, "right") - 1])


def _starts(numbers: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Where in sorted numbers each of 0 to count starts."""
    return np.searchsorted(numbers, np.arange(count + 1))


def _table(**columns: NDArray[Any]) -> NDArray[Any]:
    """Columns beside each other, so that one look at the memory finds both."""
    table = np.empty(len(next(iter(columns.values()))), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table
