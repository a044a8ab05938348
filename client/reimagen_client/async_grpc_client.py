"""The asynchronous client of the gRPC API. It needs `pip install 'reimagen-client[grpc]'`."""

from collections.abc import AsyncGenerator
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


class AsyncGrpcClient:
    """A client of the gRPC API. Use it as an asynchronous context manager; closing it cancels its calls.

    It does not retry. Every method raises a subclass of `ReimagenError` if its call fails.

    Tasks of one event loop may share a client.
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
            grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        )
        self.stub = GenerationStub(self._channel)
        self.jobs = AsyncGrpcJobs(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel. The service cancels what it draws for open calls."""
        await self._channel.close()

    async def generate(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Draw images of a prompt, and return them when all are finished."""
        return generation([event async for event in self.stream(prompt, **options)])

    async def cut_out(self, image: bytes | str | Path | Reference) -> CutOut:
        """Return the object of an image, cut out, as a request with `cut_out` would use it."""
        return await self.send(calls.cut_out(image))

    async def stream(
        self, prompt: str, *, previews: int = 0, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """Draw images of a prompt, and yield an event for the neighbors, each step, preview and image.

        Closing the generator, as `contextlib.aclosing` does, cancels the call.

        Args:
            prompt: Text that says what to draw.
            previews: Number of previews of the unfinished first image, 0 to 3.
            options: Options of the request.
        """
        request, messages = request_message(prompt, options, previews), ImageMessages(prompt)
        call = self.stub.Generate(request, timeout=self.timeout, metadata=self.metadata)
        try:
            with reporting():
                async for message in call:
                    for event in messages.read(message):
                        yield event
        finally:
            call.cancel()

    async def send(self, call: Call[T]) -> T:
        """Send a call and return its result."""
        with reporting():
            method = getattr(self.stub, call.method)
            return call.read(await method(call.request, timeout=self.timeout, metadata=self.metadata))


class AsyncGrpcJobs:
    """Requests that are drawn in the background."""

    def __init__(self, client: AsyncGrpcClient) -> None:
        """Use a client's channel."""
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
                    async for message in call:
                        for event in messages.read(message):
                            yield event
            except ReimagenError as error:
                broken = error
            finally:
                call.cancel()
            if not messages.ended:
                messages.resume(broken)

    async def wait(self, job_id: str) -> Job:
        """Wait until a job ends, and return it.

        Raises:
            JobFailed: The job failed or was cancelled.
        """
        async for _ in self.watch(job_id):
            pass
        return completed(await self.get(job_id))

    async def image(self, job_id: str, index: int = 0) -> bytes:
        """Return the content of a finished image of a job."""
        return await self._client.send(calls.job_image(job_id, index))

    async def images(self, job: Job) -> tuple[Image, ...]:
        """Return the finished images of a job, with their files."""
        return await self._client.send(calls.job_images(job.id))
