"""The synchronous client."""

# Written from async_client.py by tools/sync_clients.py. Edit that file instead.

import ssl
import time
from collections.abc import Generator, Sequence
from contextlib import closing
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


class Client:
    """A client of the REST API. Use it as a context manager; closing it ends its requests.

    It works with other services of OpenAI's API too, as far as they have the requests. Every method raises a subclass
    of `ReimagenError` if its request fails.

    Threads may share a client.
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
        self._http = httpx.Client(
            base_url=connection.base_url, headers=connection.headers, timeout=timeout, verify=verify
        )
        self.jobs = Jobs(self)
        self.files = Files(self)
        self.knowledge = Knowledge(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The service cancels what it draws for open requests."""
        self._http.close()

    def generate(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Draw images of a prompt, and return them when all are finished."""
        return self.send(calls.generate(prompt, options))

    def stream(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Draw images of a prompt, and yield an event for the neighbors, each step, preview and image.

        Closing the generator, as `contextlib.closing` does, cancels the request.

        Args:
            prompt: Text that says what to draw.
            previews: Number of previews of the unfinished first image, 0 to 3.
            options: Options of the request.
        """
        call = calls.stream(prompt, options, previews)
        with closing(self.open(call, streamed=True)) as response, closing(self.lines(response)) as lines:
            events = call.read(response)
            for line in lines:
                if (event := events.feed(line)) is not None:
                    yield event
            events.check_end()

    def cut_out(self, image: bytes | str | Path | Reference) -> CutOut:
        """Return the object of an image, cut out, as a request with `cut_out` would use it."""
        return self.send(calls.cut_out(image))

    def verify(self, image: bytes | str | Path) -> Verification:
        """Return what the service knows about the origin of an image file."""
        return self.send(calls.verify(image))

    def models(self) -> tuple[Cascade, ...]:
        """Return the loaded cascades."""
        return self.send(calls.models())

    def send(self, call: Call[T]) -> T:
        """Send a call, again if that may help, and return its result."""
        return call.read(self.open(call, streamed=False))

    def open(self, call: Call[T], *, streamed: bool) -> httpx.Response:
        """Send a call, again if that may help, and return its response. If `streamed`, its body is unread."""
        attempts = Attempts(self._retry, repeatable=call.repeatable, keyed=calls.IDEMPOTENCY_KEY in call.headers)
        while True:
            try:
                response = self._http.send(call.request(self._http), stream=streamed)
                if response.is_success:
                    return response
                with closing(response):
                    response.read()
                error = from_response(response)
            except httpx.HTTPError as failure:
                error = from_transport(failure, self.base_url)
            time.sleep(attempts.pause(error))

    def lines(self, response: httpx.Response) -> Generator[str, None, None]:
        """Yield the lines of a response."""
        splitter = LineSplitter()
        try:
            for text in response.iter_text():
                yield from splitter.feed(text)
        except (httpx.HTTPError, httpx.StreamError) as failure:
            raise from_transport(failure, self.base_url) from failure


class Jobs:
    """Requests that are drawn in the background."""

    def __init__(self, client: Client) -> None:
        """Use a client's connection."""
        self._client = client

    def create(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Job:
        """Store a job and return it. When this returns, the job survives a restart of the service."""
        return self._client.send(calls.create_job(prompt, options, previews))

    def get(self, job_id: str) -> Job:
        """Return a job."""
        return self._client.send(calls.get_job(job_id))

    def list(self, *, limit: int = 20, after: str | None = None, status: JobStatus | None = None) -> JobPage:
        """Return your jobs, newest first: those older than `after`, in one state if `status` is set."""
        return self._client.send(calls.list_jobs(limit, after, status))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job and return it. An ended job stays as it is."""
        return self._client.send(calls.cancel_job(job_id))

    def watch(self, job_id: str) -> Generator[JobEvent, None, None]:
        """Yield the events of a job, first those that have happened, until it ends.

        A stream that breaks off is continued after its last event.
        """
        events = JobEvents()
        while not events.ended:
            call = calls.watch_job(job_id, events.last_id)
            broken = None
            response = self._client.open(call, streamed=True)
            with closing(response), closing(self._client.lines(response)) as lines:
                if not call.read(response):
                    return
                try:
                    for line in lines:
                        yield from events.feed(line)
                except (Unavailable, DeadlineExceeded) as error:
                    broken = error
            if not events.ended:
                events.resume(broken)

    def wait(self, job_id: str) -> Job:
        """Wait until a job ends, and return it.

        Raises:
            JobFailed: The job failed or was cancelled.
        """
        for _ in self.watch(job_id):
            pass
        return calls.completed(self.get(job_id))

    def image(self, job_id: str, index: int = 0) -> bytes:
        """Return the content of a finished image of a job."""
        return self._client.send(calls.job_image(job_id, index))

    def images(self, job: Job) -> tuple[Image, ...]:
        """Return the finished images of a job, with their files."""
        return tuple([calls.drawn(job, one, self.image(job.id, one.index)) for one in job.images])


class Files:
    """Uploaded images, which references can name by their ids."""

    def __init__(self, client: Client) -> None:
        """Use a client's connection."""
        self._client = client

    def upload(self, image: bytes | str | Path) -> File:
        """Upload an image file, given by its content or path."""
        return self._client.send(calls.upload(image))

    def list(self) -> tuple[File, ...]:
        """Return your files, newest first."""
        return self._client.send(calls.list_files())

    def get(self, file_id: str) -> File:
        """Return the description of a file."""
        return self._client.send(calls.get_file(file_id))

    def delete(self, file_id: str) -> None:
        """Delete a file."""
        self._client.send(calls.delete_file(file_id))


class Knowledge:
    """The pairs of the knowledge base."""

    def __init__(self, client: Client) -> None:
        """Use a client's connection."""
        self._client = client

    def search(self, query: str, **options: Unpack[Search]) -> Found:
        """Return the best neighbors of a query."""
        return self._client.send(calls.search(query, options))

    def add(
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
        return self._client.send(calls.add(images, captions, ids, source, license))

    def get(self, pair_id: str) -> Pair:
        """Return the description of a pair."""
        return self._client.send(calls.get_pair(pair_id))

    def image(self, pair_id: str) -> bytes:
        """Return the content of the image file of a pair."""
        return self._client.send(calls.pair_image(pair_id))

    def remove(self, pair_id: str) -> Removed:
        """Remove a pair. When this returns, no search returns it. Kept images that are grounded on it remain."""
        return self._client.send(calls.remove(pair_id))

    def uses(self, pair_id: str) -> PairUses:
        """Return the kept images that are grounded on a pair, even after its removal."""
        return self._client.send(calls.uses(pair_id))
