"""What the operations of the retrieval service return."""

from collections.abc import Sequence
from dataclasses import dataclass

from reimagen_retriever.cache import CacheState
from reimagen_retriever.knowledge_base.manifest import Manifest
from reimagen_retriever.knowledge_base.pair import Rejected, StoredPair
from reimagen_retriever.nothing_found import NothingFound
from reimagen_retriever.search import Defaults, Explanation


@dataclass(frozen=True)
class FoundPair:
    """A pair with its image, or with b'' if the image was omitted."""

    pair: StoredPair
    image: bytes
    score: float = 0.0
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to a search."""

    neighbors: Sequence[FoundPair]
    revision: str
    cached: bool
    nothing_found: NothingFound | None = None
    """The reason if there are no neighbors, else None."""


@dataclass(frozen=True)
class Listing:
    """Some of the pairs of a base."""

    pairs: Sequence[StoredPair]
    has_more: bool
    """Whether there are pairs after the last one."""
    total: int
    """Number of pairs in the base."""
    revision: str


@dataclass(frozen=True)
class Added:
    """The outcome of adding pairs."""

    added: int
    updated: int
    """Number of pairs that replaced a pair with the same id."""
    unchanged: int
    """Number of pairs that the base already contained unchanged."""
    rejected: Sequence[Rejected]
    """The first 1,000 rejected pairs."""
    rejected_count: int
    revision: str
    """A revision that includes all of these changes."""


@dataclass(frozen=True)
class Deleted:
    """The outcome of removing pairs."""

    removed: int
    unknown: Sequence[str]
    """The ids that no pair had."""
    revision: str
    """A revision that includes all of these changes."""


@dataclass(frozen=True)
class Description:
    """The served revision, the search defaults and the state of the cache."""

    manifest: Manifest
    defaults: Defaults
    cache: CacheState
