"""Responses of server-sent events for requests for images."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from reimagen_common.errors import ReimagenError
from reimagen_common.http_errors import openai_error
from reimagen_generator.api.http.answers import Answer, base64_of
from reimagen_generator.api.http.running import cancelled_with
from reimagen_generator.api.http.schema import (
    CompletedEvent,
    ErrorEvent,
    NeighborsEvent,
    PartialImageEvent,
    ProgressEvent,
    StreamEvent,
)
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.generation.images import encode_preview
from reimagen_generator.generation.service import Event, Image

CLIENT_GONE: Final = 499
"""nginx's status for a client that closed the connection. It appears only in the log."""


async def stream(
    events: AsyncGenerator[Event, None], answer: Answer, request: Request, handle: RequestHandle
) -> Response:
    """Return a response of server-sent events. Errors before the first event are raised, and set the HTTP status."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(contextlib.aclosing(events))
        await stack.enter_async_context(cancelled_with(request, handle))
        try:
            grounding = await answer.grounding(events)
        except Cancelled:
            return Response(status_code=CLIENT_GONE)
        remaining = stack.pop_all()

    async def lines() -> AsyncIterator[str]:
        async with remaining:
            yield sse(NeighborsEvent(type=answer.event_type("neighbors"), **grounding.model_dump()))
            try:
                async for event in _stream_events(events, answer):
                    yield sse(event)
            except Cancelled:
                return
            except ReimagenError as error:
                yield sse(ErrorEvent(error=openai_error(error)))

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _stream_events(events: AsyncGenerator[Event, None], answer: Answer) -> AsyncIterator[StreamEvent]:
    previews = 0
    async for event in events:
        answer.meter.add(event)
        match event:
            case StepEvent():
                yield ProgressEvent(
                    type=answer.event_type("progress"),
                    index=event.index,
                    stage=event.stage,
                    size=event.size,
                    step=event.step,
                    steps=event.steps,
                )
                if event.preview is not None:
                    yield PartialImageEvent(
                        type=answer.event_type("partial_image"),
                        partial_image_index=previews,
                        b64_json=base64_of(encode_preview(event.preview)),
                        created_at=int(time.time()),
                        size=f"{event.size}x{event.size}",
                        quality=answer.quality,
                    )
                    previews += 1
            case Image():
                yield CompletedEvent(
                    type=answer.event_type("completed"),
                    index=event.index,
                    created_at=int(time.time()),
                    size=f"{event.size}x{event.size}",
                    output_format=answer.body.output_format,
                    quality=answer.quality,
                    usage=answer.usage(),
                    **answer.image(event).model_dump(),
                )


def sse(event: StreamEvent | ErrorEvent) -> str:
    """Return an event as it is sent."""
    return f"event: {event.type}\ndata: {event.model_dump_json(exclude_none=True)}\n\n"
