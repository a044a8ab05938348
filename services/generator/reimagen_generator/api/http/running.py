"""Run blocking generations in threads, pass their events to the event loop, and cancel them on disconnect."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request

from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.service import Event, GenerationService


class Runner:
    """A thread pool that runs generations and passes their events to the event loop."""

    def __init__(self, generator: GenerationService) -> None:
        """Create the pool, with a thread for each slot of the backend and four more to reject further requests."""
        self._generator = generator
        self._threads = ThreadPoolExecutor(generator.backend.slots + 4, thread_name_prefix="rest")

    async def events(self, request: GenerationRequest, handle: RequestHandle) -> AsyncGenerator[Event, None]:
        """Yield the events of `GenerationService.generate` or raise its error; closing the iterator cancels it."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

        def run() -> None:
            failure: Exception | None = None
            try:
                for event in self._generator.generate(request, handle):
                    loop.call_soon_threadsafe(events.put_nowait, event)
            except Exception as error:  # noqa: BLE001  (raised again in the event loop)
                failure = error
            loop.call_soon_threadsafe(events.put_nowait, failure)

        # The context assigns the thread's logs and traces to this request.
        self._threads.submit(contextvars.copy_context().run, run)
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            handle.cancel()


@contextlib.asynccontextmanager
async def cancelled_with(request: Request, handle: RequestHandle) -> AsyncIterator[None]:
    """Cancel the generation as soon as the client disconnects."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        handle.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
