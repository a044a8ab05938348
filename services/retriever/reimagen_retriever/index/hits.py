"""What a search finds, and why."""

from dataclasses import dataclass

from reimagen_retriever.knowledge_base.pair import StoredPair


@dataclass(frozen=True)
class Hit:
    """A pair that a query found."""

    pair: StoredPair
    score: float
    """Of the method; comparable within one answer only."""
    cosine: float | None = None
    """Of the vectors of query and pair, where they were compared."""
    bm25_rank: int | None = None
    """Where a hybrid search found it by BM25, from 1."""
    dense_rank: int | None = None
    """Where a hybrid search found it by vector, from 1."""


@dataclass(frozen=True)
class TermScore:
    """What a term of a query adds to a pair's score: times · idf · tf."""

    term: str
    times: int
    """How often the query has it."""
    idf: float
    """The inverse document frequency: the greater, the fewer pairs have the term."""
    tf: float
    """0 to 1: the greater, the oftener the text has the term, and the shorter it is."""
    score: float
