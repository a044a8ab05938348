"""The hits of a search, and the scores of their terms."""

from dataclasses import dataclass

from reimagen_retriever.knowledge_base.pair import StoredPair


@dataclass(frozen=True)
class Hit:
    """A pair that a search found."""

    pair: StoredPair
    score: float
    """Score of the method. Only scores of the same answer are comparable."""
    cosine: float | None = None
    """Cosine of the vectors of query and pair. None if they were not compared."""
    bm25_rank: int | None = None
    """Rank in the BM25 part of a hybrid search, from 1. None if the pair is not in it."""
    dense_rank: int | None = None
    """Rank in the dense part of a hybrid search, from 1. None if the pair is not in it."""


@dataclass(frozen=True)
class TermScore:
    """The contribution of a query term to the score of a pair: times · idf · tf."""

    term: str
    times: int
    """Number of occurrences in the query."""
    idf: float
    """Inverse document frequency: the fewer captions have the term, the larger."""
    tf: float
    """Normalized term frequency, 0 to 1: larger for more occurrences in the caption and for shorter captions."""
    score: float
