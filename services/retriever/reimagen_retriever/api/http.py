"""The REST face of the retriever."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, FastAPI, Form, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import Convertor, register_url_convertor

from reimagen_common.errors import NOT_BLANK, InvalidArgument, NotFound
from reimagen_common.grpc_server import WAITING_PER_WORKER
from reimagen_common.http_bodies import Bodies, BodyLimits, Places
from reimagen_common.http_docs import add_docs
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_hosts import link
from reimagen_common.http_openapi import binary, describe_api
from reimagen_common.models import WHOLE, NullIsUnset, when
from reimagen_retriever.api.pair_bodies import AddResponse, DeleteResponse, PairsForm, Rejection
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
_DESCRIPTION: Final = "The (image, text) pairs of a knowledge base: found by texts, read, added and removed."
_SERVING: Final[dict[int | str, dict[str, Any]]] = {
    429: {"description": "Too many requests are waiting; `Retry-After` says when to come back."},
    503: {"description": "The service is starting or stopping, or can't be written to now."},
}
_CHANGING: Final[dict[int | str, dict[str, Any]]] = {403: {"description": "Pages of other sites may change nothing."}}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No pair has the id."}}
_IMAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": binary("image/png", "image/jpeg", "image/webp")},
    304: {"description": "The image is still the one of the given ETag."},
}

_BM25_ALONE: Final = when("per_entity", {"const": True}, {"method": {"enum": ["bm25", None]}})
_NOT_DENSE: Final = when("method", {"const": "dense"}, {"relevance": {"type": "null"}})


class _AnyConvertor(Convertor[str]):
    """A path parameter that may hold any character: Starlette's `path` takes `a%0A` for "a"."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyConvertor())

License = Annotated[str, Field(max_length=LONGEST_VALUE)]
Source = Annotated[str, Field(min_length=1, max_length=LONGEST_SOURCE)]
PairId = Annotated[str, Path(alias="id", min_length=1, max_length=MAXIMUM_ID_BYTES, description="The pair's id.")]


class SearchRequest(NullIsUnset):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"allOf": [_BM25_ALONE, _NOT_DENSE]})

    query: str = Field(
        min_length=1,
        max_length=MAXIMUM_QUERY_CHARACTERS,
        pattern=NOT_BLANK,
        description="Free text, usually a prompt: 1 to 1,000 characters, not all of them spaces.",
    )
    k: Annotated[int, Field(ge=1, le=MAXIMUM_K), WHOLE] = Field(DEFAULT_K, description="How many pairs at most.")
    method: Method = Field("bm25", description="By words, by meaning (where the base has vectors), or both.")
    minimum_score: float | None = Field(
        None,
        ge=-1,
        allow_inf_nan=False,
        description="Pairs that score below this are no neighbors. Unless `relevance` is set, all others are.",
    )
    relevance: Relevance | None = Field(
        None,
        description="What a caption must have: any word of the query, the main word of what the query asks for "
        "(`entity`), or every word of the phrase that names it; unset, the service's default.",
    )
    per_entity: bool = Field(
        False, description="Pairs for each of the things that the query names, in turn; with bm25 alone."
    )
    licenses: list[License] = Field(
        [], max_length=MAXIMUM_VALUES, description="Pairs under one of these alone; an empty one means unknown."
    )
    sources: list[Source] = Field(
        [], max_length=MAXIMUM_VALUES, description="Pairs whose source begins with one of these alone."
    )
    minimum_side: Annotated[int, Field(ge=0, le=MAXIMUM_SIDE), WHOLE] = Field(
        0, description="Pixels that an image's shorter side has at least."
    )
    safe_only: bool = Field(False, description="Leave out what its source says is unsafe; of the unknown, none.")
    exclude_ids: list[License] = Field([], max_length=MAXIMUM_EXCLUDED, description="Leave these out.")
    keep_duplicates: bool = Field(False, description="All of several nearly equal images, not the best alone.")
    explain: bool = Field(False, description="Tell why each pair was found.")

    def search(self) -> Search:
        """What the service is asked."""
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
    """A search as a JSON body, whose types must match exactly: "1" is no number."""

    model_config = ConfigDict(strict=True)


class Pair(BaseModel):
    """One entry of the knowledge base."""

    id: str
    caption: str = Field(description="What the image shows.")
    url: str = Field(description="Of the image.")
    sha256: str = Field(description="Of the image's file.")
    media_type: str
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    source: str = Field(description="Where the image came from; empty when unknown.")
    license: str = Field(description="SPDX identifier or name; empty when unknown.")


class Term(BaseModel):
    """What a term of the query adds to a BM25 score: times * idf * tf."""

    term: str = Field(description="As the index has it, such as a stem.")
    times: int = Field(description="How often the query has it.")
    idf: float = Field(description="The greater, the fewer pairs have the term.")
    tf: float = Field(description="0 to 1: the greater, the oftener the text has it and the shorter it is.")
    score: float


class Reason(BaseModel):
    """Why a pair was found."""

    terms: list[Term] = Field(description="The most first; none where it was found by vectors alone.")
    named: list[str] = Field(description="The things of the query that the caption names.")
    cosine: float | None = Field(description="Of the vectors of query and pair, where they were compared.")
    bm25_rank: int | None = Field(description="Of a hybrid search, in BM25's ranking.")
    dense_rank: int | None = Field(description="Of a hybrid search, in the vectors' ranking.")


class Neighbor(Pair):
    """A pair that a query found."""

    rank: int = Field(description="From 1, the best.")
    score: float = Field(description="Of the method; comparable within one answer only.")
    explanation: Reason | None = Field(None, description="Where `explain` asked for it.")


class NothingFound(BaseModel):
    """Why a search found nothing."""

    reason: str
    field: str = Field(description="Of the request, to change.")
    nearest: Pair | None = Field(description="What would be found first if all pairs were taken.")
    lacking: list[str] = Field(description="Words of the query that the nearest pair's caption would need.")


class SearchResponse(BaseModel):
    """What was found, best first."""

    neighbors: list[Neighbor] = Field(description="Fewer than k, or none, when no more pairs are relevant.")
    revision: str = Field(description="The revision of the knowledge base that answered.")
    cached: bool = Field(description="Whether the answer came from the cache.")
    nothing_found: NothingFound | None = Field(description="Why there are no neighbors, where there are none.")


def create_app(
    retriever: RetrievalService, operations: APIRouter, *, workers: int, body_seconds: float, base_url: str | None
) -> FastAPI:
    """Make the application.

    Args:
        retriever: What answers.
        operations: The routes for operators.
        workers: How many requests are answered, and uploads held, at once; as many calls over gRPC are answered.
        body_seconds: What a body may take to arrive, see `BodyLimits`.
        base_url: What links begin with; None for the host that the client named.
    """
    app = FastAPI(
        title="Re-Imagen's knowledge base", description=_DESCRIPTION, version="1", docs_url=None, redoc_url=None
    )
    add_docs(app)
    describe_api(app)
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
    app.include_router(_knowledge_base_router(retriever, base_url))
    app.include_router(operations)
    return app


def _knowledge_base_router(retriever: RetrievalService, base_url: str | None) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["knowledge base"], responses=_SERVING)
    own_site = Depends(_refusing_other_sites(base_url))

    @router.get("/search")
    def search(asked: Annotated[SearchRequest, Query()], request: Request) -> SearchResponse:
        """Find the pairs that match a query best, best first."""
        answer = retriever.search(asked.search())
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
    def search_by_body(asked: SearchBody, request: Request) -> SearchResponse:
        """Find the pairs that match a query best, best first; for queries that are to be in no log of addresses."""
        return search(asked, request)

    # Ids may hold slashes: what ends with /image is the image's address.
    @router.get("/pairs/{id:any}/image", name="pair_image", response_class=Response, responses=_IMAGE | _MISSING)
    def read_image(pair_id: PairId, if_none_match: Annotated[str, Header()] = "") -> Response:
        """Read a pair's image, byte for byte as it was added; its ETag is the file's SHA-256."""
        _refuse_too_long(pair_id)
        found = retriever.get_pair(pair_id, omit_image=True)
        tag = f'"{found.pair.sha256}"'
        # A pair of the same id may come to have another image: it is to be asked for anew, if cheaply.
        headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if tag in (given.strip().removeprefix("W/") for given in if_none_match.split(",")):
            return Response(status_code=304, headers=headers)
        found = retriever.get_pair(pair_id)
        headers["ETag"] = f'"{found.pair.sha256}"'
        return Response(found.image, media_type=found.pair.media_type, headers=headers)

    @router.post("/pairs", responses=_CHANGING, dependencies=[own_site])
    def add_pairs(sent: Annotated[PairsForm, Form(media_type="multipart/form-data")]) -> AddResponse:
        """Add pairs, or replace those that have their ids; when the answer comes they are safe on disk, and found.

        What is there already, just so, is left as it is: sending again does no harm. A pair that can't be taken is told
        in `rejected`, the others are taken; where none can be, the answer is 400.
        """
        sent.check()
        ids = sent.ids()
        added = retriever.add_pairs(sent.entries(ids))
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

    @router.delete("/pairs/{id:any}", responses=_MISSING | _CHANGING, dependencies=[own_site])
    def delete_pair(pair_id: PairId) -> DeleteResponse:
        """Remove a pair; when the answer comes no search finds it, cached or not."""
        _refuse_too_long(pair_id)
        deleted = retriever.delete_pairs([pair_id])
        if not deleted.removed:
            raise NotFound(f"no pair of the knowledge base has the id {pair_id!r}", field="id")
        return DeleteResponse(removed=deleted.removed, revision=deleted.revision)

    @router.get("/pairs/{id:any}", responses=_MISSING)
    def read_pair(pair_id: PairId, request: Request) -> Pair:
        """Read what is known of a pair."""
        _refuse_too_long(pair_id)
        return Pair(**_fields(retriever.get_pair(pair_id, omit_image=True), request, base_url))

    return router


def _refuse_too_long(pair_id: str) -> None:
    """An id of few characters may still have more bytes than any pair's."""
    if len(pair_id.encode("utf-8", "replace")) > MAXIMUM_ID_BYTES:
        raise NotFound(f"no pair's id has more than {MAXIMUM_ID_BYTES} bytes of UTF-8", field="id")


def _refusing_other_sites(base_url: str | None) -> Callable[[Request], None]:
    """A page of any other site could have its visitors' browsers change the base of a service on their machine."""
    public = urlsplit(base_url or "").netloc

    def refuse(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in (request.headers.get("host"), public or None):
            raise HTTPException(403, f"pages of {origin} may not change this knowledge base")

    return refuse


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
        **pair.model_dump(include={"sha256", "media_type", "width", "height", "source", "license"}),
    }
