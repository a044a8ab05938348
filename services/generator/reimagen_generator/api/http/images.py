"""The route POST /v1/images/generations, and the routes of linked images."""

import base64
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from reimagen.v1 import retrieval_pb2
from reimagen_common.access.caller import current_caller
from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_common.http_errors import openai_error
from reimagen_common.http_hosts import link
from reimagen_common.http_openapi import binary, event_stream
from reimagen_common.http_paths import ID_PATH
from reimagen_generator.api.http.admission import admitting_route
from reimagen_generator.api.http.files import FileStore
from reimagen_generator.api.http.running import Runner, cancelled_with
from reimagen_generator.api.http.schema import (
    STREAM_EVENTS,
    CompletedEvent,
    ErrorEvent,
    ExplanationData,
    Grounding,
    ImageData,
    ImagesRequest,
    ImagesResponse,
    NeighborData,
    NeighborsEvent,
    NothingFoundData,
    PartialImageEvent,
    ProgressEvent,
    StreamEvent,
    TermData,
)
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.generation.images import encode_preview
from reimagen_generator.generation.retriever_client import Neighbor, Neighbors
from reimagen_generator.generation.service import Accepted, Event, GenerationService, Image

_LINK_SECONDS: Final = 3_600
_LINK_BYTES: Final = 256 * 1024 * 1024
# nginx's status for a client that closed the connection. It appears only in the log.
_CLIENT_GONE: Final = 499

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The images. With `stream`, server-sent events: one `image_generation.neighbors`, one "
        "`image_generation.progress` for each step, up to `partial_images` times `image_generation.partial_image`, and "
        "one `image_generation.completed` for each image as soon as it is finished. An error during the stream ends it "
        "with an event `error`.",
        "content": {"text/event-stream": event_stream(STREAM_EVENTS)},
    },
    503: {"description": "The service is starting or stopping, or the retriever does not answer."},
    504: {"description": "The images were not finished before the deadline."},
}
_IMAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The image file.", "content": binary("image/png", "image/jpeg", "image/webp")}
}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No such image, or it has expired."}}
_RETRIEVER: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "The retriever does not answer."}}


class _Answer:
    """A converter of the events of one request to the models of the REST API."""

    def __init__(
        self,
        generator: GenerationService,
        files: FileStore,
        body: ImagesRequest,
        request: Request,
        base_url: str | None,
    ) -> None:
        self._cascade = generator.config.name
        self._files = files
        self._body = body
        self._link = partial(link, request, base_url)

    def grounding(self, accepted: Accepted, neighbors: Neighbors) -> Grounding:
        return Grounding(
            neighbors=[
                NeighborData(
                    id=neighbor.id,
                    caption=neighbor.caption,
                    source=neighbor.source,
                    license=neighbor.license,
                    rank=neighbor.rank,
                    score=neighbor.score,
                    explanation=_explanation(neighbor.explanation) if neighbor.explanation else None,
                    **self._image_of(neighbor),
                )
                if neighbor.id
                else NeighborData(caption=neighbor.caption)
                for neighbor in neighbors.neighbors
            ],
            text_only=neighbors.text_only,
            nothing_found=_nothing_found(neighbors.nothing_found) if neighbors.nothing_found else None,
            revision=neighbors.revision,
            cascade=self._cascade,
            seed=accepted.seed,
        )

    def image(self, drawn: Image) -> ImageData:
        if self._body.response_format == "b64_json":
            return ImageData(b64_json=_base64(drawn.image), seed=drawn.seed)
        name = self._files.add(drawn.image, drawn.media_type, owner=current_caller().id)
        return ImageData(url=self._link("file", name=name), seed=drawn.seed)

    def _image_of(self, neighbor: Neighbor) -> dict[str, str]:
        if self._body.response_format == "b64_json":
            return {"b64_json": _base64(neighbor.image)}
        return {"url": self._link("pair_image", id=quote(neighbor.id))}


def images_router(generator: GenerationService, *, deadline: float, base_url: str | None) -> APIRouter:
    """Return the routes of the images. A request may take `deadline` seconds; links begin with `base_url`."""
    router = APIRouter(prefix="/v1", tags=["images"], route_class=admitting_route(generator.engine))
    files = FileStore(seconds=_LINK_SECONDS, maximum_bytes=_LINK_BYTES)
    runner = Runner(generator)

    @router.post(
        "/images/generations", response_model=ImagesResponse, response_model_exclude_none=True, responses=_ANSWERS
    )
    async def create_images(body: ImagesRequest, request: Request) -> ImagesResponse | Response:
        """Draw images of a prompt, grounded on pairs of the knowledge base.

        The body has OpenAI's fields, and `seed`, `retrieval`, `guidance` and `references`. Other fields are rejected.
        Closing the connection cancels the request.
        """
        if body.model not in (None, generator.config.name):
            raise InvalidArgument(
                f"must be {generator.config.name!r}, the loaded cascade, or unset; got {body.model!r}", field="model"
            )
        if body.previews and not body.stream:
            raise InvalidArgument("requires stream = true", field="partial_images")
        handle = RequestHandle(timeout=deadline)
        answer = _Answer(generator, files, body, request, base_url)
        events = runner.events(body, handle)
        if body.stream:
            return await _stream(events, answer, body, request, handle)
        async with contextlib.aclosing(events), cancelled_with(request, handle):
            try:
                grounding, size = await _grounding(events, answer)
                data = [answer.image(event) async for event in events if isinstance(event, Image)]
            except Cancelled:
                return Response(status_code=_CLIENT_GONE)
        return ImagesResponse(
            created=int(time.time()),
            size=f"{size}x{size}",
            output_format=body.output_format,
            data=data,
            **grounding.model_dump(),
        )

    @router.get("/images/files/{name}", name="file", response_class=Response, responses=_IMAGE | _MISSING)
    async def read_file(name: str) -> Response:
        """Return an image that an answer links to. Where keys are required, it needs the same key."""
        stored = files.get(name, owner=current_caller().id)
        return Response(stored.content, media_type=stored.media_type)

    @router.get(
        f"/pairs/{ID_PATH}/image",
        name="pair_image",
        tags=["knowledge base"],
        response_class=Response,
        responses=_IMAGE | _MISSING | _RETRIEVER,
    )
    async def read_pair_image(
        pair_id: Annotated[str, Path(alias="id", min_length=1, description="Id of the pair.")],
    ) -> Response:
        """Return the image of a pair of the knowledge base."""
        image, media_type = await run_in_threadpool(generator.retriever.pair_image, pair_id)
        return Response(image, media_type=media_type)

    return router


async def _grounding(events: AsyncGenerator[Event, None], answer: _Answer) -> tuple[Grounding, int]:
    accepted, neighbors = await anext(events), await anext(events)
    assert isinstance(accepted, Accepted)
    assert isinstance(neighbors, Neighbors)
    return answer.grounding(accepted, neighbors), accepted.size


async def _stream(
    events: AsyncGenerator[Event, None], answer: _Answer, body: ImagesRequest, request: Request, handle: RequestHandle
) -> Response:
    """Return a response of server-sent events. Errors before the first event are raised, and set the HTTP status."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(contextlib.aclosing(events))
        await stack.enter_async_context(cancelled_with(request, handle))
        try:
            grounding, _ = await _grounding(events, answer)
        except Cancelled:
            return Response(status_code=_CLIENT_GONE)
        remaining = stack.pop_all()

    async def lines() -> AsyncIterator[str]:
        async with remaining:
            yield _sse(NeighborsEvent(**grounding.model_dump()))
            try:
                async for event in _stream_events(events, answer, body):
                    yield _sse(event)
            except Cancelled:
                return
            except ReimagenError as error:
                yield _sse(ErrorEvent(error=openai_error(error)))

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _stream_events(
    events: AsyncGenerator[Event, None], answer: _Answer, body: ImagesRequest
) -> AsyncIterator[StreamEvent]:
    previews = 0
    async for event in events:
        match event:
            case StepEvent():
                yield ProgressEvent(
                    index=event.index, stage=event.stage, size=event.size, step=event.step, steps=event.steps
                )
                if event.preview is not None:
                    yield PartialImageEvent(
                        partial_image_index=previews,
                        b64_json=_base64(encode_preview(event.preview)),
                        created_at=int(time.time()),
                        size=f"{event.size}x{event.size}",
                    )
                    previews += 1
            case Image():
                yield CompletedEvent(
                    index=event.index,
                    created_at=int(time.time()),
                    size=f"{event.size}x{event.size}",
                    output_format=body.output_format,
                    **answer.image(event).model_dump(),
                )


def _sse(event: StreamEvent | ErrorEvent) -> str:
    return f"event: {event.type}\ndata: {event.model_dump_json(exclude_none=True)}\n\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _explanation(explanation: retrieval_pb2.Explanation) -> ExplanationData:
    return ExplanationData(
        named=list(explanation.named),
        terms=[
            TermData(term=term.term, times=term.times, idf=term.idf, tf=term.tf, score=term.score)
            for term in explanation.terms
        ],
        cosine=explanation.cosine if explanation.HasField("cosine") else None,
        bm25_rank=explanation.bm25_rank if explanation.HasField("bm25_rank") else None,
        dense_rank=explanation.dense_rank if explanation.HasField("dense_rank") else None,
    )


def _nothing_found(nothing: retrieval_pb2.NothingFound) -> NothingFoundData:
    return NothingFoundData(
        reason=nothing.reason,
        field=nothing.field or None,
        nearest=nothing.nearest.caption or None,
        nearest_id=nothing.nearest.id or None,
        lacking=list(nothing.lacking),
    )
