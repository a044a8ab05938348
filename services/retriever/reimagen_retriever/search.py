"""Searches of a knowledge base: their parameters and limits, and how each method answers them."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import BM25Search, Relevance
from reimagen_retriever.index.dense_search import DenseSearcher
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.index.hits import Hit, TermScore

DEFAULT_K = 2
MAXIMUM_K = 16
MAXIMUM_QUERY_CHARACTERS = 1_000

Method = Literal["bm25", "dense", "hybrid"]


@dataclass(frozen=True)
class Search:
    """The parameters of a search."""

    query: str
    k: int = DEFAULT_K
    omit_images: bool = False
    method: Method = "bm25"
    minimum_score: float | None = None
    """Minimum score of a hit, on the scale of the method."""
    relevance: Relevance | None = None
    """What a caption must share with the query, see `bm25.Relevance`. None means the service's default, or "any" if
    `minimum_score` is set."""
    per_entity: bool = False
    """Whether to find pairs for each entity that the query names, see `BM25Index.search_per_entity`."""
    filters: Filters = NO_FILTER
    explain: bool = False
    """Whether to explain why each pair was found."""

    def check(self, within: str = "") -> None:
        """Check all fields against their limits.

        Args:
            within: The prefix of the field names in errors, such as `searches[0].`.

        Raises:
            InvalidArgument: A field is out of range. The error names the field.
        """
        length = len(self.query.strip())
        if not 1 <= length <= MAXIMUM_QUERY_CHARACTERS:
            raise InvalidArgument(
                f"must be 1 to {MAXIMUM_QUERY_CHARACTERS:,} characters, got {length:,}", field=f"{within}query"
            )
        if not 1 <= self.k <= MAXIMUM_K:
            raise InvalidArgument(f"must be 1 to {MAXIMUM_K}, got {self.k:,}", field=f"{within}k")
        if self.minimum_score is not None and not (math.isfinite(self.minimum_score) and self.minimum_score >= -1):
            raise InvalidArgument(
                f"must be a number of at least -1, got {self.minimum_score}", field=f"{within}minimum_score"
            )
        if self.per_entity and self.method != "bm25":
            raise InvalidArgument(
                f"requires method bm25, got {self.method}: entities are found by the words of the query",
                field=f"{within}per_entity",
            )
        if self.relevance is not None and self.method == "dense":
            raise InvalidArgument(
                "requires method bm25 or hybrid; for dense, set minimum_score instead",
                field=f"{within}relevance",
            )
        self.filters.check(within)


@dataclass(frozen=True)
class Defaults:
    """The defaults of searches that do not set these fields."""

    relevance: Relevance
    cosine: float | None = None
    """Minimum cosine, -1 to 1, see `DenseSearcher.search`. None means the value measured when the vectors were made."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of a hit: what each term of the query adds to its BM25 score, largest first."""

    hit: Hit
    named: Sequence[str]
    """The entities of the query that the caption names, in the words of the query."""
    terms: Sequence[TermScore] = ()


def find(base: KnowledgeBase, search: Search, defaults: Defaults) -> list[Hit]:
    """Return the hits of a validated search, best first.

    Raises:
        InvalidArgument: The search needs vectors, and the base has none or their encoder is missing.
    """
    return find_all(base, [search], defaults)[0]


def find_all(base: KnowledgeBase, searches: Sequence[Search], defaults: Defaults) -> list[list[Hit]]:
    """Return the hits of each search as `find` does, those by words on all free cores.

    Raises:
        InvalidArgument: A search needs vectors, and the base has none or their encoder is missing.
    """
    by_words = [search.method == "bm25" and not search.per_entity for search in searches]
    asked = []
    for search, together in zip(searches, by_words, strict=True):
        if together:
            relevance, _ = in_force(base, search, defaults)
            asked.append(BM25Search(search.query, search.k, search.minimum_score or 0.0, relevance, search.filters))
    found = iter(base.index.search_all(asked))
    return [
        next(found) if together else _found_alone(base, search, defaults)
        for search, together in zip(searches, by_words, strict=True)
    ]


def _found_alone(base: KnowledgeBase, search: Search, defaults: Defaults) -> list[Hit]:
    relevance, cosine = in_force(base, search, defaults)
    score = search.minimum_score or 0.0
    match search.method:
        case "bm25":
            return base.index.search_per_entity(search.query, search.k, score, relevance, search.filters)
        case "dense":
            least = cosine if search.minimum_score is None else search.minimum_score
            return dense(base).search(search.query, search.k, least, search.filters)
        case "hybrid":
            return dense(base).search_hybrid(search.query, search.k, score, relevance, cosine, search.filters)


def explain(base: KnowledgeBase, search: Search, hit: Hit) -> Explanation:
    """Return why a hit of a search was found."""
    terms = () if search.method == "dense" else base.index.explain(search.query, hit.pair.id)
    caption_terms = base.index.terms(hit.pair.caption)
    entities = base.index.entities(search.query)
    named = [entity.text for entity in (*entities.named, *entities.others) if entity.is_named_by(caption_terms)]
    return Explanation(hit, named, terms)


def key(base: KnowledgeBase, search: Search, defaults: Defaults) -> str:
    """Return the cache key of an answer. It covers everything that the answer depends on.

    Plain BM25 depends only on the terms of the query, not on their order, case or stop words. An encoder reads the
    whole query.
    """
    relevance, cosine = in_force(base, search, defaults)
    parts = [search.method, f"{search.per_entity}", f"{search.k}", f"{search.minimum_score!r}", relevance]
    if search.method == "bm25":
        parts += sorted(base.index.terms(search.query))
        entities = base.index.entities(search.query)
        if search.per_entity:
            groups = (entities.named, entities.others)
            parts += [f"{[(entity.heads, entity.terms) for entity in group]}" for group in groups]
        elif relevance != "any":
            parts += sorted({f"{(entity.heads, sorted(entity.terms))}" for entity in entities.named})
    else:
        parts += [f"{cosine!r}", base.manifest.vectors.folder if base.manifest.vectors else "", search.query.strip()]
    parts.append(repr(search.filters.canonical()))
    digest = hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]
    return f"reimagen:{base.manifest.revision}:{digest}"


def in_force(base: KnowledgeBase, search: Search, defaults: Defaults) -> tuple[Relevance, float]:
    """Return the relevance and minimum cosine that apply. A minimum score in the search replaces both."""
    if search.minimum_score is not None:
        return search.relevance or "any", -1.0
    measured = base.manifest.vectors.minimum_cosine if base.manifest.vectors else -1.0
    return search.relevance or defaults.relevance, measured if defaults.cosine is None else defaults.cosine


def dense(base: KnowledgeBase) -> DenseSearcher:
    """Return the searcher of a base's vectors.

    Raises:
        InvalidArgument: The base has no vectors.
    """
    if base.dense is None:
        raise InvalidArgument(
            "this knowledge base has no vectors; make them with `reimagen-retriever vectors KB_DIR --encoder FOLDER`",
            field="method",
        )
    return base.dense
