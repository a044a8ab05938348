"""The REST API of the retriever."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Form, Header, Path, Query, Request, Response

from reimagen_common.access.guard import Guard
from reimagen_common.access.http import add_key_check
from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_common.grpc_server import WAITING_PER_WORKER
from reimagen_common.http_bodies import Bodies, BodyLimits, RequestSlots
from reimagen_common.http_cors import add_cors
from reimagen_common.http_docs import add_docs
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_hosts import link
from reimagen_common.http_openapi import binary, describe_api
from reimagen_common.http_origin import refusing_other_sites
from reimagen_common.http_paths import ID_PATH
from reimagen_retriever.api.pair_bodies import AddResponse, DeleteResponse, PairsForm, Rejection
from reimagen_retriever.api.rights import ROUTES
from reimagen_retriever.api.search_bodies import (
    Neighbor,
    NothingFound,
    Pair,
    Reason,
    SearchBody,
    SearchRequest,
    SearchResponse,
    Term,
)
from reimagen_retriever.knowledge_base.pair import MAXIMUM_ID_BYTES
from reimagen_retriever.results import Answer, FoundPair
from reimagen_retriever.service import RetrievalService

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

PairId = Annotated[str, Path(alias="id", min_length=1, max_length=MAXIMUM_ID_BYTES, description="Id of the pair.")]


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
    app.add_middleware(RequestSlots, slots=workers * (1 + WAITING_PER_WORKER))
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
