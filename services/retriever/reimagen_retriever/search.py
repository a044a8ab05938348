"""What may be asked of a knowledge base, and how it is found by each method."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.dense_search import DenseSearcher
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.index.hits import Hit, TermScore

DEFAULT_K = 2
MAXIMUM_K = 16
MAXIMUM_QUERY_CHARACTERS = 1_000

Method = Literal["bm25", "dense", "hybrid"]


@dataclass(frozen=True)
class Search:
    """What is asked for."""

    query: str
    k: int = DEFAULT_K
    omit_images: bool = False
    method: Method = "bm25"
    minimum_score: float | None = None
    """The least score, of the method."""
    relevance: Relevance | None = None
    """What a caption must have of the query, see `bm25.Relevance`; None leaves it to the service's default, or stands
    for "any" where a minimum score is named."""
    per_entity: bool = False
    """Pairs for each of the things that the query names, see `BM25Index.search_per_entity`."""
    filters: Filters = NO_FILTER
    explain: bool = False
    """Whether to tell why each pair was found."""

    def check(self, within: str = "") -> None:
        """Refuses what is beyond the limits.

        Args:
            within: What the fields' names begin with, such as `searches[0].`.

        Raises:
            InvalidArgument: naming the field.
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
                f"must be a number from -1 up, got {self.minimum_score}", field=f"{within}minimum_score"
            )
        if self.per_entity and self.method != "bm25":
            raise InvalidArgument(
                f"goes with method bm25, not {self.method}: a thing is told by the words of the query",
                field=f"{within}per_entity",
            )
        if self.relevance is not None and self.method == "dense":
            raise InvalidArgument(
                "goes with method bm25 or hybrid: by vectors, minimum_score says what is a neighbor",
                field=f"{within}relevance",
            )
        self.filters.check(within)


@dataclass(frozen=True)
class Defaults:
    """What makes a pair a neighbor where a search does not say."""

    relevance: Relevance
    cosine: float | None = None
    """-1 to 1, see `DenseSearcher.search`; None leaves it to what was measured when the vectors were made."""


@dataclass(frozen=True)
class Explanation:
    """Why a pair was found: the hit, and by BM25 what each term of the query adds to the score, the most first."""

    hit: Hit
    named: Sequence[str]
    """The things of the query that the caption names, as the query has them."""
    terms: Sequence[TermScore] = ()


def find(base: KnowledgeBase, search: Search, defaults: Defaults) -> list[Hit]:
    """The hits of a search that has been checked, best first.

    Raises:
        InvalidArgument: the base has no vectors, or not their encoder.
    """
    relevance, cosine = in_force(base, search, defaults)
    score = search.minimum_score or 0.0
    match search.method:
        case "bm25":
            by = base.index.search_per_entity if search.per_entity else base.index.search
            return by(search.query, search.k, score, relevance, search.filters)
        case "dense":
            least = cosine if search.minimum_score is None else search.minimum_score
            return dense(base).search(search.query, search.k, least, search.filters)
        case "hybrid":
            return dense(base).search_hybrid(search.query, search.k, score, relevance, cosine, search.filters)


def explain(base: KnowledgeBase, search: Search, hit: Hit) -> Explanation:
    """Why a hit of a search was found."""
    terms = () if search.method == "dense" else base.index.explain(search.query, hit.pair.id)
    said = base.index.terms(hit.pair.caption)
    things = base.index.things(search.query)
    named = [thing.text for thing in (*things.named, *things.others) if thing.is_named_by(said)]
    return Explanation(hit, named, terms)


def key(base: KnowledgeBase, search: Search, defaults: Defaults) -> str:
    """Names everything that the answer depends on.

    To plain BM25 a query is its terms: their order, case and stop words are nothing. An encoder reads all of it.
    """
    relevance, cosine = in_force(base, search, defaults)
    asked = [search.method, f"{search.per_entity}", f"{search.k}", f"{search.minimum_score!r}", relevance]
    if search.method == "bm25":
        asked += sorted(base.index.terms(search.query))
        things = base.index.things(search.query)
        if search.per_entity:
            asked += [f"{[(thing.heads, thing.terms) for thing in group]}" for group in (things.named, things.others)]
        elif relevance != "any":
            asked += sorted({f"{(thing.heads, sorted(thing.terms))}" for thing in things.named})
    else:
        asked += [f"{cosine!r}", base.manifest.vectors.folder if base.manifest.vectors else "", search.query.strip()]
    asked.append(repr(search.filters.canonical()))
    digest = hashlib.sha256("\n".join(asked).encode(errors="surrogatepass")).hexdigest()[:32]
    return f"reimagen:{base.manifest.revision}:{digest}"


def in_force(base: KnowledgeBase, search: Search, defaults: Defaults) -> tuple[Relevance, float]:
    """The relevance and least cosine; a search that names its own minimum score takes all that reaches it."""
    if search.minimum_score is not None:
        return search.relevance or "any", -1.0
    measured = base.manifest.vectors.minimum_cosine if base.manifest.vectors else -1.0
    return search.relevance or defaults.relevance, measured if defaults.cosine is None else defaults.cosine


def dense(base: KnowledgeBase) -> DenseSearcher:
    """The searcher of a base's vectors.

    Raises:
        InvalidArgument: it has none.
    """
    if base.dense is None:
        raise InvalidArgument(
            "this knowledge base has no vectors; make them by `reimagen-retriever vectors KB_DIR --encoder FOLDER`",
            field="method",
        )
    return base.dense
