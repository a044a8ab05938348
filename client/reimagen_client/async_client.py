"""The asynchronous client."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Self, TypeVar, Unpack

import httpx

from reimagen_client import calls
from reimagen_client.calls import Call
from reimagen_client.errors import DeadlineExceeded, Unavailable
from reimagen_client.events import JobEvents, LineSplitter
from reimagen_client.knowledge_models import Added, Found, Pair, PairUses, Removed
from reimagen_client.models import (
    Cascade,
    CutOut,
    Event,
    File,
    Generation,
    Image,
    Job,
    JobEvent,
    JobPage,
    JobStatus,
    Verification,
)
from reimagen_client.options import Options, Reference, Search
from reimagen_client.retries import Attempts, RetryPolicy, from_response, from_transport
from reimagen_client.settings import TIMEOUT_SECONDS, Connection

T = TypeVar("T")


class AsyncClient:
    """A client of the REST API. Use it as an asynchronous context manager; closing it ends its requests.

    It works with other services of OpenAI's API too, as far as they have the requests. Every method raises a subclass
    of `ReimagenError` if its request fails.

    Tasks of one event loop may share a client.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retry: RetryPolicy | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Create the client, without connecting.

        Args:
            base_url: URL of the service. None: REIMAGEN_BASE_URL, OPENAI_BASE_URL, or http://127.0.0.1:8000/v1.
            api_key: Key for the service. None: REIMAGEN_API_KEY, or OPENAI_API_KEY with OPENAI_BASE_URL.
            timeout: Seconds to wait for an answer, or for the next event of a stream.
            retry: When to send a request again. None: twice, with the pauses that the service names.
            verify: TLS context for other authorities or for a client certificate.

        Raises:
            InvalidRequest: The URL or the key is invalid.
        """
        connection = Connection.find(base_url, api_key)
        self.base_url = connection.base_url
        self._retry = retry or RetryPolicy()
        self._http = httpx.AsyncClient(
            base_url=connection.base_url, headers=connection.headers, timeout=timeout, verify=verify
        )
        self.jobs = AsyncJobs(self)
        self.files = AsyncFiles(self)
        self.knowledge = AsyncKnowledge(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The service cancels what it draws for open requests."""
        await self._http.aclose()

    async def generate(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Draw images of a prompt, and return them when all are finished."""
        return await self.send(calls.generate(prompt, options))

    async def stream(
        self, prompt: str, *, previews: int = 0, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """Draw images of a prompt, and yield an event for the neighbors, each step, preview and image.

        Closing the generator, as `contextlib.aclosing` does, cancels the request.

        Args:
            prompt: Text that says what to draw.
            previews: Number of previews of the unfinished first image, 0 to 3.
            options: Options of the request.
        """
        call = calls.stream(prompt, options, previews)
        async with aclosing(await self.open(call, streamed=True)) as response, aclosing(self.lines(response)) as lines:
            events = call.read(response)
            async for line in lines:
                if (event := events.feed(line)) is not None:
                    yield event
            events.check_end()

    async def cut_out(self, image: bytes | str | Path | Reference) -> CutOut:
        """Return the object of an image, cut out, as a request with `cut_out` would use it."""
        return await self.send(calls.cut_out(image))

    async def verify(self, image: bytes | str | Path) -> Verification:
        """Return what the service knows about the origin of an image file."""
        return await self.send(calls.verify(image))

    async def models(self) -> tuple[Cascade, ...]:
        """Return the loaded cascades."""
        return await self.send(calls.models())

    async def send(self, call: Call[T]) -> T:
        """Send a call, again if that may help, and return its result."""
        return call.read(await self.open(call, streamed=False))

    async def open(self, call: Call[T], *, streamed: bool) -> httpx.Response:
        """Send a call, again if that may help, and return its response. If `streamed`, its body is unread."""
        attempts = Attempts(self._retry, repeatable=call.repeatable, keyed=calls.IDEMPOTENCY_KEY in call.headers)
        while True:
            try:
                response = await self._http.send(call.request(self._http), stream=streamed)
                if response.is_success:
                    return response
                async with aclosing(response):
                    await response.aread()
                error = from_response(response)
            except httpx.HTTPError as failure:
                error = from_transport(failure, self.base_url)
            await asyncio.sleep(attempts.pause(error))

    async def lines(self, response: httpx.Response) -> AsyncGenerator[str, None]:
        """Yield the lines of a response."""
        splitter = LineSplitter()
        try:
            async for text in response.aiter_text():
                for line in splitter.feed(text):
                    yield line
        except (httpx.HTTPError, httpx.StreamError) as failure:
            raise from_transport(failure, self.base_url) from failure


class AsyncJobs:
    """Requests that are drawn in the background."""

    def __init__(self, client: AsyncClient) -> None:
        """Use a client's connection."""
        self._client = client

    async def create(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Job:
        """Store a job and return it. When this returns, the job survives a restart of the service."""
        return await self._client.send(calls.create_job(prompt, options, previews))

    async def get(self, job_id: str) -> Job:
        """Return a job."""
        return await self._client.send(calls.get_job(job_id))

    async def list(self, *, limit: int = 20, after: str | None = None, status: JobStatus | None = None) -> JobPage:
        """Return your jobs, newest first: those older than `after`, in one state if `status` is set."""
        return await self._client.send(calls.list_jobs(limit, after, status))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job and return it. An ended job stays as it is."""
        return await self._client.send(calls.cancel_job(job_id))

    async def watch(self, job_id: str) -> AsyncGenerator[JobEvent, None]:
        """Yield the events of a job, first those that have happened, until it ends.

        A stream that breaks off is continued after its last event.
        """
        events = JobEvents()
        while not events.ended:
            call = calls.watch_job(job_id, events.last_id)
            broken = None
            response = await self._client.open(call, streamed=True)
            async with aclosing(response), aclosing(self._client.lines(response)) as lines:
                if not call.read(response):
                    return
                try:
                    async for line in lines:
                        for event in events.feed(line):
                            yield event
                except (Unavailable, DeadlineExceeded) as error:
                    broken = error
            if not events.ended:
                events.resume(broken)

    async def wait(self, job_id: str) -> Job:
        """Wait until a job ends, and return it.

        Raises:
            JobFailed: The job failed or was cancelled.
        """
        async for _ in self.watch(job_id):
            pass
        return calls.completed(await self.get(job_id))

    async def image(self, job_id: str, index: int = 0) -> bytes:
        """Return the content of a finished image of a job."""
        return await self._client.send(calls.job_image(job_id, index))

    async def images(self, job: Job) -> tuple[Image, ...]:
        """Return the finished images of a job, with their files."""
        return tuple([calls.drawn(job, one, await self.image(job.id, one.index)) for one in job.images])


class AsyncFiles:
    """Uploaded images, which references can name by their ids."""

    def __init__(self, client: AsyncClient) -> None:
        """Use a client's connection."""
        self._client = client

    async def upload(self, image: bytes | str | Path) -> File:
        """Upload an image file, given by its content or path."""
        return await self._client.send(calls.upload(image))

    async def list(self) -> tuple[File, ...]:
        """Return your files, newest first."""
        return await self._client.send(calls.list_files())

    async def get(self, file_id: str) -> File:
        """Return the description of a file."""
        return await self._client.send(calls.get_file(file_id))

    async def delete(self, file_id: str) -> None:
        """Delete a file."""
        await self._client.send(calls.delete_file(file_id))


class AsyncKnowledge:
    """The pairs of the knowledge base."""

    def __init__(self, client: AsyncClient) -> None:
        """Use a client's connection."""
        self._client = client

    async def search(self, query: str, **options: Unpack[Search]) -> Found:
        """Return the best neighbors of a query."""
        return await self._client.send(calls.search(query, options))

    async def add(
        self,
        images: Sequence[bytes | str | Path],
        captions: Sequence[str],
        *,
        ids: Sequence[str] = (),
        source: str = "",
        license: str = "",  # noqa: A002
    ) -> Added:
        """Add pairs of images and captions, and replace those with the same ids.

        Args:
            images: Image files, given by their contents or paths, at most 16.
            captions: Caption of each image.
            ids: Id of each pair. Empty: the service makes them from the images.
            source: Origin of the images.
            license: SPDX identifier or name of the license of the images.
        """
        return await self._client.send(calls.add(images, captions, ids, source, license))

    async def get(self, pair_id: str) -> Pair:
        """Return the description of a pair."""
        return await self._client.send(calls.get_pair(pair_id))

    async def image(self, pair_id: str) -> bytes:
        """Return the content of the image file of a pair."""
        return await self._client.send(calls.pair_image(pair_id))

    async def remove(self, pair_id: str) -> Removed:
        """Remove a pair. When this returns, no search returns it. Kept images that are grounded on it remain."""
        return await self._client.send(calls.remove(pair_id))

    async def uses(self, pair_id: str) -> PairUses:
        """Return the kept images that are grounded on a pair, even after its removal."""
        return await self._client.send(calls.uses(pair_id))
