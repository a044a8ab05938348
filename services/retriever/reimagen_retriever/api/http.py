"""The REST API of the retriever."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Form, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.access.guard import Guard
from reimagen_common.access.http import add_key_check
from reimagen_common.errors import NOT_BLANK, InvalidArgument, NotFound
from reimagen_common.grpc_server import WAITING_PER_WORKER
from reimagen_common.http_bodies import Bodies, BodyLimits, Places
from reimagen_common.http_cors import add_cors
from reimagen_common.http_docs import add_docs
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_hosts import link
from reimagen_common.http_openapi import binary, describe_api
from reimagen_common.http_origin import refusing_other_sites
from reimagen_common.http_paths import ID_PATH
from reimagen_common.models import WHOLE, NullIsUnset, when
from reimagen_retriever.api.pair_bodies import AddResponse, DeleteResponse, PairsForm, Rejection
from reimagen_retriever.api.rights import ROUTES
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.filters import (
    LONGEST_SOURCE,
    LONGEST_VALUE,
    MAXIMUM_EXCLUDED,
    MAXIMUM_SIDE,
    MAXIMUM_VALUES,
    Filters,
)
from reimagen_retriever.knowledge_base.pair import MAXIMUM_ID_BYTES
from reimagen_retriever.search import DEFAULT_K, MAXIMUM_K, MAXIMUM_QUERY_CHARACTERS, Method, Search
from reimagen_retriever.service import Answer, FoundPair, RetrievalService

_MIB: Final = 1024 * 1024
_PAIRS_PATH: Final = "/v1/pairs"
_TITLE: Final = "Re-Imagen's knowledge base"
_DESCRIPTION: Final = "Search, read, add and remove the (image, caption) pairs of a knowledge base."
_SERVING: Final[dict[int | str, dict[str, Any]]] = {
    429: {"description": "Too many requests are waiting; `Retry-After` says when to retry."},
    503: {"description": "The service is starting or stopping, or the knowledge base cannot be written to."},
}
_CHANGING: Final[dict[int | str, dict[str, Any]]] = {
    403: {"description": "The request comes from a page of another site."}
}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No pair has the id."}}
_IMAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The image file.", "content": binary("image/png", "image/jpeg", "image/webp")},
    304: {"description": "The image still has the given ETag."},
}

_BM25_ALONE: Final = when("per_entity", {"const": True}, {"method": {"enum": ["bm25", None]}})
_NOT_DENSE: Final = when("method", {"const": "dense"}, {"relevance": {"type": "null"}})

License = Annotated[str, Field(max_length=LONGEST_VALUE)]
Source = Annotated[str, Field(min_length=1, max_length=LONGEST_SOURCE)]
PairId = Annotated[str, Path(alias="id", min_length=1, max_length=MAXIMUM_ID_BYTES, description="Id of the pair.")]


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


def create_app(
    retriever: RetrievalService,
    operations: APIRouter,
    guard: Guard,
    *,
    workers: int,
    body_seconds: float,
    base_url: str | None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Create the application.

    Args:
        retriever: The service that handles the requests.
        operations: The routes of health and metrics.
        guard: The checks of keys.
        workers: Number of concurrent requests and uploads. gRPC handles the same number of requests in addition.
        body_seconds: Time limit for receiving a body, see `BodyLimits`.
        base_url: The prefix of links. None uses the host of the request.
        cors_origins: The origins of pages that may use the service.
    """
    app = FastAPI(
        title="Re-Imagen's knowledge base", description=_DESCRIPTION, version="1", docs_url=None, redoc_url=None
    )
    add_docs(app)
    describe_api(app, rights=ROUTES if guard.requires_keys else None)
    limits = BodyLimits(
        maximum_bytes=4 * _MIB,
        larger={_PAIRS_PATH: 64 * _MIB},
        advice="send fewer images, or shorter lists, at once",
        uploads=workers,
        seconds=body_seconds,
    )
    app.add_middleware(Places, places=workers * (1 + WAITING_PER_WORKER))
    app.add_middleware(Bodies, limits=limits)
    register_error_handlers(app)
    app.include_router(_knowledge_base_router(retriever, base_url, cors_origins))
    app.include_router(operations)
    add_key_check(app, guard, ROUTES)
    add_cors(app, cors_origins)
    return app


def _knowledge_base_router(retriever: RetrievalService, base_url: str | None, cors_origins: Sequence[str]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["knowledge base"], responses=_SERVING)
    own_site = Depends(refusing_other_sites(base_url, cors_origins))

    @router.get("/search")
    def search(parameters: Annotated[SearchRequest, Query()], request: Request) -> SearchResponse:
        """Return the best neighbors of a query, best first."""
        answer = retriever.search(parameters.search())
        neighbors = [
            Neighbor(**_fields(found, request, base_url), rank=rank, score=found.score, explanation=_reason(found))
            for rank, found in enumerate(answer.neighbors, start=1)
        ]
        return SearchResponse(
            neighbors=neighbors,
            revision=answer.revision,
            cached=answer.cached,
            nothing_found=_nothing_found(answer, request, base_url),
        )

    @router.post("/search")
    def search_by_body(body: SearchBody, request: Request) -> SearchResponse:
        """Return the best neighbors of a query, best first. The query does not appear in access logs."""
        return search(body, request)

    # Ids may contain slashes. A path that ends with /image is always the URL of an image.
    @router.get(f"/pairs/{ID_PATH}/image", name="pair_image", response_class=Response, responses=_IMAGE | _MISSING)
    def read_image(pair_id: PairId, if_none_match: Annotated[str, Header()] = "") -> Response:
        """Return the image file of a pair, exactly as it was added. Its ETag is the file's SHA-256."""
        _refuse_too_long(pair_id)
        found = retriever.get_pair(pair_id, omit_image=True)
        tag = f'"{found.pair.sha256}"'
        # The image of an id may change, so clients must revalidate it, which is cheap.
        headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if tag in (given.strip().removeprefix("W/") for given in if_none_match.split(",")):
            return Response(status_code=304, headers=headers)
        found = retriever.get_pair(pair_id)
        headers["ETag"] = f'"{found.pair.sha256}"'
        return Response(found.image, media_type=found.pair.media_type, headers=headers)

    @router.post("/pairs", responses=_CHANGING, dependencies=[own_site])
    def add_pairs(form: Annotated[PairsForm, Form(media_type="multipart/form-data")]) -> AddResponse:
        """Add pairs and replace those with the same ids. When the answer arrives, they are on disk and searchable.

        Pairs that are already present stay unchanged, so that it is safe to send them again. Invalid pairs are listed
        in `rejected` and the others are added. If all pairs are invalid, the status is 400.
        """
        form.check()
        ids = form.ids()
        added = retriever.add_pairs(form.entries(ids))
        rejected = [Rejection(location=one.location, reason=one.reason, detail=one.detail) for one in added.rejected]
        if len(rejected) == len(ids):
            raise InvalidArgument(f"{rejected[0].reason} {rejected[0].detail}".strip(), field=rejected[0].location)
        return AddResponse(
            ids=ids,
            added=added.added,
            updated=added.updated,
            unchanged=added.unchanged,
            rejected=rejected,
            revision=added.revision,
        )

    @router.delete(f"/pairs/{ID_PATH}", responses=_MISSING | _CHANGING, dependencies=[own_site])
    def delete_pair(pair_id: PairId) -> DeleteResponse:
        """Remove a pair. When the answer arrives, no search returns it, cached or not."""
        _refuse_too_long(pair_id)
        deleted = retriever.delete_pairs([pair_id])
        if not deleted.removed:
            raise NotFound(f"no pair of the knowledge base has the id {pair_id!r}", field="id")
        return DeleteResponse(removed=deleted.removed, revision=deleted.revision)

    @router.get(f"/pairs/{ID_PATH}", responses=_MISSING)
    def read_pair(pair_id: PairId, request: Request) -> Pair:
        """Return the metadata of a pair."""
        _refuse_too_long(pair_id)
        return Pair(**_fields(retriever.get_pair(pair_id, omit_image=True), request, base_url))

    return router


def _refuse_too_long(pair_id: str) -> None:
    """Raise for ids with too many bytes, which the limit on characters does not catch."""
    if len(pair_id.encode("utf-8", "replace")) > MAXIMUM_ID_BYTES:
        raise NotFound(f"no pair's id has more than {MAXIMUM_ID_BYTES} bytes of UTF-8", field="id")


def _reason(found: FoundPair) -> Reason | None:
    if found.explanation is None:
        return None
    hit = found.explanation.hit
    return Reason(
        terms=[Term(**asdict(term)) for term in found.explanation.terms],
        named=list(found.explanation.named),
        cosine=hit.cosine,
        bm25_rank=hit.bm25_rank,
        dense_rank=hit.dense_rank,
    )


def _nothing_found(answer: Answer, request: Request, base_url: str | None) -> NothingFound | None:
    nothing = answer.nothing_found
    if nothing is None:
        return None
    nearest = Pair(**_fields(FoundPair(nothing.nearest.pair, b""), request, base_url)) if nothing.nearest else None
    return NothingFound(reason=nothing.reason, field=nothing.field, nearest=nearest, lacking=list(nothing.lacking))


def _fields(found: FoundPair, request: Request, base_url: str | None) -> dict[str, Any]:
    pair = found.pair
    return {
        "id": pair.id,
        "caption": pair.caption,
        "url": link(request, base_url, "pair_image", id=quote(pair.id)),
        **pair.model_dump(include={"sha256", "media_type", "width", "height", "source", "license", "unsafe"}),
    }
