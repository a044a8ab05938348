"""The events of jobs as server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from reimagen.v1 import generation_pb2 as pb
from reimagen_common.errors import NotFound, Overloaded
from reimagen_generator.api.http.job_answers import Link, event_data
from reimagen_generator.jobs.service import JobService
from reimagen_generator.jobs.store import Status

_STREAMS: Final = 256
_KEEP_ALIVE_SECONDS: Final = 15.0


class JobStreams:
    """The open streams of events, whose number is limited. Use it from one event loop."""

    def __init__(self) -> None:
        """Start without streams."""
        self._open = 0

    async def watch(self, jobs: JobService, job_id: str, *, owner: str, after: int, link: Link) -> Response:
        """Return a response with the events of a job after the one with the id `after`.

        Raises:
            NotFound: The owner has no such job, or it has expired.
            Overloaded: Too many streams are open.
        """
        job = await run_in_threadpool(jobs.get, job_id, owner=owner)
        # 204 tells browsers not to connect again.
        if job.status.finished and not await run_in_threadpool(jobs.events, job_id, owner=owner, after=after):
            return Response(status_code=204)
        if self._open >= _STREAMS:
            raise Overloaded(f"{self._open} streams of events are open; try again later", retry_after=10)

        async def lines() -> AsyncIterator[str]:
            self._open += 1
            try:
                async for event in _events(jobs, job_id, owner=owner, after=after):
                    yield ": keep-alive\n\n" if event is None else _sse(job_id, event, link)
            finally:
                self._open -= 1

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _events(jobs: JobService, job_id: str, *, owner: str, after: int) -> AsyncIterator[pb.JobEvent | None]:
    """Yield the events of a job until it ends or the service stops, and None if nothing happens for a while."""
    loop, further = asyncio.get_running_loop(), asyncio.Event()

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(further.set)

    with jobs.watching(job_id, notify), contextlib.suppress(NotFound):
        while not jobs.stopping:
            further.clear()
            events = await run_in_threadpool(jobs.events, job_id, owner=owner, after=after)
            for event in events:
                after = event.id
                yield event
                if event.WhichOneof("event") == "status" and Status(event.status).finished:
                    return
            if not events:
                try:
                    async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                        await further.wait()
                except TimeoutError:
                    yield None


def _sse(job_id: str, event: pb.JobEvent, link: Link) -> str:
    data = event_data(job_id, event, link)
    return f"id: {event.id}\nevent: {data.type}\ndata: {data.model_dump_json(exclude_none=True)}\n\n"
