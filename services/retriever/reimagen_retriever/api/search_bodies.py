"""The parameters and response bodies of searches."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import NOT_BLANK
from reimagen_common.models import WHOLE, NullIsUnset, when
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.filters import (
    LONGEST_SOURCE,
    LONGEST_VALUE,
    MAXIMUM_EXCLUDED,
    MAXIMUM_SIDE,
    MAXIMUM_VALUES,
    Filters,
)
from reimagen_retriever.search import DEFAULT_K, MAXIMUM_K, MAXIMUM_QUERY_CHARACTERS, Method, Search

_BM25_ALONE: Final = when("per_entity", {"const": True}, {"method": {"enum": ["bm25", None]}})
_NOT_DENSE: Final = when("method", {"const": "dense"}, {"relevance": {"type": "null"}})

License = Annotated[str, Field(max_length=LONGEST_VALUE)]
Source = Annotated[str, Field(min_length=1, max_length=LONGEST_SOURCE)]


class SearchRequest(NullIsUnset):
    """The parameters of a search."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"allOf": [_BM25_ALONE, _NOT_DENSE]})

    query: str = Field(
        min_length=1,
        max_length=MAXIMUM_QUERY_CHARACTERS,
        pattern=NOT_BLANK,
        description="Free text, usually a prompt: 1 to 1,000 characters, not all of them spaces.",
    )
    k: Annotated[int, Field(ge=1, le=MAXIMUM_K), WHOLE] = Field(DEFAULT_K, description="Maximum number of pairs.")
    method: Method = Field(
        "bm25", description="Search by words (bm25), by vectors (dense, if the base has vectors), or by both (hybrid)."
    )
    minimum_score: float | None = Field(
        None,
        ge=-1,
        le=1_000_000,
        allow_inf_nan=False,
        description="Minimum score of a neighbor. Unless `relevance` is set, all pairs that reach it are relevant.",
    )
    relevance: Relevance | None = Field(
        None,
        description="What a caption must share with the query: any word (`any`), the main word of an entity that the "
        "query asks for (`entity`), or every word of the phrase that names it (`phrase`). Unset: the default of the "
        "service.",
    )
    per_entity: bool = Field(
        False, description="Find pairs for each entity that the query names, in turn. Only with method bm25."
    )
    licenses: list[License] = Field(
        [], max_length=MAXIMUM_VALUES, description="Only pairs under one of these licenses; empty means unknown."
    )
    sources: list[Source] = Field(
        [], max_length=MAXIMUM_VALUES, description="Only pairs whose source begins with one of these."
    )
    minimum_side: Annotated[int, Field(ge=0, le=MAXIMUM_SIDE), WHOLE] = Field(
        0, description="Minimum length of an image's shorter side, in pixels."
    )
    safe_only: bool = Field(
        True,
        description="Leave out pairs that their source marks as not safe for work. Unmarked pairs are included.",
    )
    exclude_ids: list[License] = Field(
        [], max_length=MAXIMUM_EXCLUDED, description="Leave out the pairs with these ids."
    )
    keep_duplicates: bool = Field(False, description="Return all near-duplicates of an image, not only the best one.")
    explain: bool = Field(False, description="Explain why each pair was found.")

    def search(self) -> Search:
        """Return the search for the service."""
        return Search(
            query=self.query,
            k=self.k,
            omit_images=True,
            method=self.method,
            minimum_score=self.minimum_score,
            relevance=self.relevance,
            per_entity=self.per_entity,
            filters=Filters(
                licenses=tuple(self.licenses),
                sources=tuple(self.sources),
                minimum_side=self.minimum_side,
                safe_only=self.safe_only,
                exclude_ids=tuple(self.exclude_ids),
                keep_duplicates=self.keep_duplicates,
            ),
            explain=self.explain,
        )


class SearchBody(SearchRequest):
    """A search as a JSON body, whose types must match exactly: "1" is not a number."""

    model_config = ConfigDict(strict=True)


class Pair(BaseModel):
    """A pair of the knowledge base."""

    id: str
    caption: str = Field(description="Caption of the image.")
    url: str = Field(description="URL of the image.")
    sha256: str = Field(description="SHA-256 of the image file.")
    media_type: str
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    source: str = Field(description="Origin of the image; empty when unknown.")
    license: str = Field(description="SPDX identifier or name; empty when unknown.")
    unsafe: float | None = Field(
        None, description="Probability that the image is not safe for work, if its source says so."
    )


class Term(BaseModel):
    """The contribution of a query term to a BM25 score: times * idf * tf."""

    term: str = Field(description="Term of the index, such as a stem.")
    times: int = Field(description="Number of occurrences in the query.")
    idf: float = Field(description="Inverse document frequency: the fewer captions have the term, the larger.")
    tf: float = Field(
        description="Normalized term frequency, 0 to 1: larger for more occurrences in the caption and for shorter "
        "captions."
    )
    score: float


class Reason(BaseModel):
    """The explanation of a neighbor."""

    terms: list[Term] = Field(description="Contributions of the query's terms, largest first; empty for method dense.")
    named: list[str] = Field(description="Entities of the query that the caption names.")
    cosine: float | None = Field(description="Cosine of the vectors of query and pair; null if not compared.")
    bm25_rank: int | None = Field(description="Rank in the BM25 part of a hybrid search, from 1; null if not in it.")
    dense_rank: int | None = Field(description="Rank in the dense part of a hybrid search, from 1; null if not in it.")


class Neighbor(Pair):
    """A pair that a search found."""

    rank: int = Field(description="Rank, from 1 for the best.")
    score: float = Field(description="Score of the method. Only scores of the same answer are comparable.")
    explanation: Reason | None = Field(None, description="Explanation, if `explain` is set.")


class NothingFound(BaseModel):
    """The explanation of an empty answer."""

    reason: str
    field: str = Field(description="Field of the request to change.")
    nearest: Pair | None = Field(description="Pair that would rank first if every pair were relevant.")
    lacking: list[str] = Field(description="Main words of the query that the caption of the nearest pair lacks.")


class SearchResponse(BaseModel):
    """The answer to a search."""

    neighbors: list[Neighbor] = Field(
        description="Neighbors, best first; fewer than k, or none, if no more pairs are relevant."
    )
    revision: str = Field(description="Revision of the knowledge base that was searched.")
    cached: bool = Field(description="Whether the answer came from the cache.")
    nothing_found: NothingFound | None = Field(description="Reason if there are no neighbors.")
