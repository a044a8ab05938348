"""The synchronous client of the gRPC API. It needs `pip install 'reimagen-client[grpc]'`."""

# Written from async_grpc_client.py by tools/sync_clients.py. Edit that file instead.

from collections.abc import Generator
from pathlib import Path
from typing import Self, TypeVar, Unpack

import grpc

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_client import grpc_calls as calls
from reimagen_client.calls import completed
from reimagen_client.errors import ReimagenError
from reimagen_client.grpc_calls import Call
from reimagen_client.grpc_messages import CHANNEL_OPTIONS, connection, reporting, request_message
from reimagen_client.grpc_results import ImageMessages, JobMessages, generation
from reimagen_client.models import CutOut, Event, Generation, Image, Job, JobEvent, JobPage, JobStatus
from reimagen_client.options import Options, Reference
from reimagen_client.settings import TIMEOUT_SECONDS

T = TypeVar("T")


class GrpcClient:
    """A client of the gRPC API. Use it as a context manager; closing it cancels its calls.

    It does not retry. Every method raises a subclass of `ReimagenError` if its call fails.

    Threads may share a client.
    """

    def __init__(
        self,
        target: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Create the client, without connecting.

        Args:
            target: host:port of the service. None: REIMAGEN_GRPC, or 127.0.0.1:50052.
            api_key: Key for the service. None: REIMAGEN_API_KEY.
            timeout: Seconds that a call may take.
            credentials: TLS credentials of the channel. None: no TLS.

        Raises:
            InvalidRequest: The key is invalid.
        """
        target, self.metadata = connection(target, api_key)
        self.timeout = timeout
        self._channel = (
            grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
            if credentials
            else grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        )
        self.stub = GenerationStub(self._channel)
        self.jobs = GrpcJobs(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. The service cancels what it draws for open calls."""
        self._channel.close()

    def generate(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Draw images of a prompt, and return them when all are finished."""
        return generation(list(self.stream(prompt, **options)))

    def cut_out(self, image: bytes | str | Path | Reference) -> CutOut:
        """Return the object of an image, cut out, as a request with `cut_out` would use it."""
        return self.send(calls.cut_out(image))

    def stream(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Draw images of a prompt, and yield an event for the neighbors, each step, preview and image.

        Closing the generator, as `contextlib.closing` does, cancels the call.

        Args:
            prompt: Text that says what to draw.
            previews: Number of previews of the unfinished first image, 0 to 3.
            options: Options of the request.
        """
        request, messages = request_message(prompt, options, previews), ImageMessages(prompt)
        call = self.stub.Generate(request, timeout=self.timeout, metadata=self.metadata)
        try:
            with reporting():
                for message in call:
                    yield from messages.read(message)
        finally:
            call.cancel()

    def send(self, call: Call[T]) -> T:
        """Send a call and return its result."""
        with reporting():
            method = getattr(self.stub, call.method)
            return call.read(method(call.request, timeout=self.timeout, metadata=self.metadata))


class GrpcJobs:
    """Requests that are drawn in the background."""

    def __init__(self, client: GrpcClient) -> None:
        """Use a client's channel."""
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

        A call that breaks off is continued after its last event.
        """
        messages = JobMessages()
        while not messages.ended:
            broken = None
            request = pb.WatchJobRequest(id=job_id, after=messages.last)
            call = self._client.stub.WatchJob(
                request,
                timeout=self._client.timeout,
                metadata=self._client.metadata,
                # After a break, the service may need a moment to start again.
                wait_for_ready=messages.last > 0,
            )
            try:
                with reporting():
                    for message in call:
                        yield from messages.read(message)
            except ReimagenError as error:
                broken = error
            finally:
                call.cancel()
            if not messages.ended:
                messages.resume(broken)

    def wait(self, job_id: str) -> Job:
        """Wait until a job ends, and return it.

        Raises:
            JobFailed: The job failed or was cancelled.
        """
        for _ in self.watch(job_id):
            pass
        return completed(self.get(job_id))

    def image(self, job_id: str, index: int = 0) -> bytes:
        """Return the content of a finished image of a job."""
        return self._client.send(calls.job_image(job_id, index))

    def images(self, job: Job) -> tuple[Image, ...]:
        """Return the finished images of a job, with their files."""
        return self._client.send(calls.job_images(job.id))
