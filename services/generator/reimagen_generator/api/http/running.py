"""From the blocking way of a generation to the event loop, and back when the client goes away."""

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
    """Runs generations on threads of its own and hands their events to the event loop."""

    def __init__(self, generator: GenerationService) -> None:
        """Take what generates; there is a thread for each place of its engine, and some to refuse the rest."""
        self._generator = generator
        self._threads = ThreadPoolExecutor(generator.engine.slots + 4, thread_name_prefix="rest")

    async def events(self, request: GenerationRequest, call: RequestHandle) -> AsyncGenerator[Event, None]:
        """Yield the events of `GenerationService.generate`, or raise its error; leaving early cancels the request."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

        def run() -> None:
            end: Exception | None = None
            try:
                for event in self._generator.generate(request, call):
                    loop.call_soon_threadsafe(arrived.put_nowait, event)
            except Exception as error:  # noqa: BLE001  (raised again on the loop's side)
                end = error
            loop.call_soon_threadsafe(arrived.put_nowait, end)

        # The thread works for this request: what it logs and traces belongs to it.
        self._threads.submit(contextvars.copy_context().run, run)
        try:
            while (event := await arrived.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            call.cancel()


@contextlib.asynccontextmanager
async def cancelled_with(request: Request, call: RequestHandle) -> AsyncIterator[None]:
    """Cancel the call as soon as the client of the request goes away."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        call.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
