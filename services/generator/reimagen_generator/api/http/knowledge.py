"""The routes of the knowledge base, which the retriever answers."""

import hashlib
import logging
from functools import partial
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, params
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import InvalidArgument, NotFound, Unavailable
from reimagen_common.http_hosts import link
from reimagen_common.http_paths import ID_PATH
from reimagen_generator.api.http.answers import explanation_data, nothing_found_data
from reimagen_generator.api.http.edits import read_form
from reimagen_generator.api.http.forms import parse_fields
from reimagen_generator.api.http.job_answers import Link
from reimagen_generator.api.http.knowledge_schema import (
    ID_BYTES,
    LISTED,
    PAIRS,
    PAIRS_FORM,
    SEARCH_PARAMETERS,
    AddedPairs,
    DeletedPair,
    FoundPairData,
    KnowledgeAnswer,
    KnowledgeSearch,
    PairData,
    PairFields,
    PairId,
    PairList,
    PairUses,
    RejectionData,
)
from reimagen_generator.api.http.uses import FindUses
from reimagen_generator.generation.knowledge import Knowledge

PAIRS_PATH: Final = "/v1/knowledge/pairs"

_SERVING: Final[dict[int | str, dict[str, Any]]] = {
    429: {"description": "The retriever has too many requests; `Retry-After` says when to retry."},
    503: {"description": "The retriever does not answer, or the knowledge base cannot be written to."},
}
_CHANGING: Final[dict[int | str, dict[str, Any]]] = {
    403: {"description": "The request comes from a page of another site."}
}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No pair has the id."}}

_logger = logging.getLogger(__name__)


def knowledge_router(
    knowledge: Knowledge, find_uses: FindUses, own_site: params.Depends, *, base_url: str | None
) -> APIRouter:
    """Return the routes of the knowledge base.

    Args:
        knowledge: The knowledge base.
        find_uses: Finds the kept images that are grounded on a pair.
        own_site: Refuses changes by pages of other sites.
        base_url: The prefix of links. None uses the host of the request.
    """
    router = APIRouter(prefix="/v1/knowledge", tags=["knowledge base"], responses=_SERVING)

    @router.get("/search", response_model_exclude_none=True, openapi_extra={"parameters": SEARCH_PARAMETERS})
    async def search_knowledge(request: Request) -> KnowledgeAnswer:
        """Return the best neighbors of a query, best first."""
        search = parse_fields(request.query_params.multi_items(), KnowledgeSearch, empty_is_null=False)
        return await _search(knowledge, search, partial(link, request, base_url))

    @router.post("/search", response_model_exclude_none=True)
    async def search_knowledge_by_body(body: KnowledgeSearch, request: Request) -> KnowledgeAnswer:
        """Return the best neighbors of a query, best first. The query does not appear in access logs."""
        return await _search(knowledge, body, partial(link, request, base_url))

    @router.get("/pairs", response_model_exclude_none=True)
    async def list_pairs(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=LISTED, description="Maximum number of pairs.")] = 20,
        after: Annotated[
            str | None,
            Query(min_length=1, max_length=ID_BYTES, description="Id of a pair; only later ids are returned."),
        ] = None,
        order: Annotated[
            Literal["id", "random"],
            Query(description="By the bytes of the ids, or pairs that are chosen at random, without `after`."),
        ] = "id",
    ) -> PairList:
        """List pairs of the knowledge base, all of them in pages, or some at random."""
        found = await run_in_threadpool(knowledge.list, limit, after=after or "", at_random=order == "random")
        url_of = partial(link, request, base_url)
        data = [PairData(**_fields(pair, url_of)) for pair in found.pairs]
        return PairList(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=found.has_more,
            total=found.total,
            revision=found.revision,
        )

    @router.post("/pairs", responses=_CHANGING, dependencies=[own_site], openapi_extra={"requestBody": PAIRS_FORM})
    async def add_pairs(request: Request) -> AddedPairs:
        """Add pairs and replace those with the same ids. When the answer arrives, they are on disk and searchable.

        Invalid pairs are listed in `rejected` and the others are added. If all pairs are invalid, the status is 400.
        """
        form = await read_form(request, files=PAIRS)
        try:
            pairs = await _read_pairs(form)
        finally:
            await form.close()
        added = await run_in_threadpool(knowledge.add, pairs)
        rejected = [
            RejectionData(
                location=one.location.replace("pairs[", "image.").replace("]", ""), reason=one.reason, detail=one.detail
            )
            for one in added.rejections
        ]
        if len(rejected) == len(pairs):
            raise InvalidArgument(f"{rejected[0].reason} {rejected[0].detail}".strip(), field=rejected[0].location)
        return AddedPairs(
            ids=[pair.id for pair in pairs],
            added=added.added,
            updated=added.updated,
            unchanged=added.unchanged,
            rejected=rejected,
            revision=added.revision,
        )

    @router.delete(
        f"/pairs/{ID_PATH}",
        response_model_exclude_none=True,
        responses=_MISSING | _CHANGING,
        dependencies=[own_site],
    )
    async def delete_pair(pair_id: PairId) -> DeletedPair:
        """Remove a pair. When the answer arrives, no search returns it, cached or not.

        The answer lists the kept images that are grounded on the pair, which remain.
        """
        _refuse_too_long(pair_id)
        deleted = await run_in_threadpool(knowledge.delete, [pair_id])
        if not deleted.removed:
            raise NotFound(f"no pair of the knowledge base has the id {pair_id!r}", field="id")
        uses = await _known(find_uses, pair_id)
        return DeletedPair(removed=deleted.removed, revision=deleted.revision, uses=uses)

    @router.get(f"/pairs/{ID_PATH}", response_model_exclude_none=True, responses=_MISSING)
    async def read_pair(pair_id: PairId, request: Request) -> PairData:
        """Return the metadata of a pair."""
        _refuse_too_long(pair_id)
        pair = await run_in_threadpool(knowledge.pair, pair_id)
        return PairData(**_fields(pair, partial(link, request, base_url)))

    return router


async def _known(find_uses: FindUses, pair_id: str) -> PairUses | None:
    """Return the uses of a pair, or None if they are unknown now: the pair is removed all the same."""
    try:
        return await find_uses(pair_id)
    except Unavailable as error:
        _logger.warning("uses unknown", extra={"pair": pair_id, "reason": error.message})
        return None


async def _search(knowledge: Knowledge, search: KnowledgeSearch, url_of: Link) -> KnowledgeAnswer:
    answer, reasons = await run_in_threadpool(knowledge.search, search.message(), check_policy=search.check_policy)
    return KnowledgeAnswer(
        neighbors=[
            FoundPairData(
                **_fields(found.pair, url_of),
                rank=found.rank,
                score=found.score,
                explanation=explanation_data(found.explanation) if found.HasField("explanation") else None,
                refused=reason,
            )
            for found, reason in zip(answer.neighbors, reasons, strict=True)
        ],
        revision=answer.revision,
        cached=answer.cached,
        nothing_found=nothing_found_data(answer.nothing_found) if answer.HasField("nothing_found") else None,
    )


async def _read_pairs(form: FormData) -> list[retrieval_pb2.AddPairsRequest]:
    images: list[bytes] = []
    texts: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if name != "image" and isinstance(value, str):
            texts.append((name, value))
        elif name != "image":
            raise InvalidArgument("must be text, got a file; send images in the field image", field=name)
        elif not isinstance(value, UploadFile):
            raise InvalidArgument("must be a file; send the form as multipart/form-data", field="image")
        else:
            images.append(await value.read())
    if not images:
        raise InvalidArgument(f"must be given 1 to {PAIRS} times, got 0", field="image")
    fields, count = parse_fields(texts, PairFields), len(images)
    for name, allowed in (("caption", {count}), ("id", {0, count}), ("source", {1, count}), ("license", {1, count})):
        if len(given := getattr(fields, name)) not in allowed:
            lengths = " or ".join(str(length) for length in sorted(allowed))
            raise InvalidArgument(f"must be given {lengths} times, with {count} images; got {len(given)}", field=name)
    ids = fields.id or [hashlib.sha256(image).hexdigest()[:32] for image in images]
    return [
        retrieval_pb2.AddPairsRequest(
            id=ids[number],
            caption=fields.caption[number],
            image=image,
            source=fields.source[number % len(fields.source)],
            license=fields.license[number % len(fields.license)],
        )
        for number, image in enumerate(images)
    ]


def _refuse_too_long(pair_id: str) -> None:
    """Raise for ids with too many bytes, which the limit on characters does not catch."""
    if len(pair_id.encode("utf-8", "replace")) > ID_BYTES:
        raise NotFound(f"no pair's id has more than {ID_BYTES} bytes of UTF-8", field="id")


def _fields(pair: retrieval_pb2.Pair, url_of: Link) -> dict[str, Any]:
    return {
        "id": pair.id,
        "caption": pair.caption,
        "url": url_of("pair_image", id=quote(pair.id)),
        "media_type": pair.media_type,
        "width": pair.width,
        "height": pair.height,
        "source": pair.source,
        "license": pair.license,
        "unsafe": pair.unsafe if pair.HasField("unsafe") else None,
    }
