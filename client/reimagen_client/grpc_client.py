"""The client of the gRPC API. It needs `pip install 'reimagen-client[grpc]'`."""

from collections.abc import Generator
from typing import Any, Self, Unpack

import grpc

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_client.calls import completed
from reimagen_client.errors import NotFound, ReimagenError
from reimagen_client.grpc_messages import CHANNEL_OPTIONS, connection, list_request, reporting, request_message
from reimagen_client.grpc_results import ImageMessages, JobMessages, generation, images_of, job_of, page_of
from reimagen_client.models import Event, Generation, Image, Job, JobEvent, JobPage, JobStatus
from reimagen_client.options import Options
from reimagen_client.settings import TIMEOUT_SECONDS


class GrpcClient:
    """A client of the gRPC API. Use it as a context manager; closing it cancels its calls. Threads may share it.

    It does not retry. Every method raises a subclass of `ReimagenError` if its call fails.
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


class GrpcJobs:
    """Requests that are drawn in the background."""

    def __init__(self, client: GrpcClient) -> None:
        """Use a client's channel."""
        self._client = client

    def create(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Job:
        """Store a job and return it. When this returns, the job survives a restart of the service."""
        request = pb.CreateJobRequest(request=request_message(prompt, options, previews))
        with reporting():
            return job_of(self._client.stub.CreateJob(request, **self._options()))

    def get(self, job_id: str) -> Job:
        """Return a job."""
        return job_of(self._read(job_id, with_images=False))

    def list(self, *, limit: int = 20, after: str | None = None, status: JobStatus | None = None) -> JobPage:
        """Return your jobs, newest first: those older than `after`, in one state if `status` is set."""
        request = list_request(limit, after, status)
        with reporting():
            return page_of(self._client.stub.ListJobs(request, **self._options()))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job and return it. An ended job stays as it is."""
        with reporting():
            return job_of(self._client.stub.CancelJob(pb.CancelJobRequest(id=job_id), **self._options()))

    def watch(self, job_id: str) -> Generator[JobEvent, None, None]:
        """Yield the events of a job, first those that have happened, until it ends.

        A call that breaks off is continued after its last event.
        """
        messages = JobMessages()
        while not messages.ended:
            broken = None
            request = pb.WatchJobRequest(id=job_id, after=messages.last)
            # After a break, the service may need a moment to start again.
            call = self._client.stub.WatchJob(request, wait_for_ready=messages.last > 0, **self._options())
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
        for image in images_of(self._read(job_id, with_images=True)):
            if image.index == index:
                return image.content
        raise NotFound(f"index: the job has no finished image {index}", field="index")

    def images(self, job: Job) -> tuple[Image, ...]:
        """Return the finished images of a job, with their files."""
        return images_of(self._read(job.id, with_images=True))

    def _read(self, job_id: str, *, with_images: bool) -> pb.Job:
        request = pb.GetJobRequest(id=job_id, with_images=with_images)
        with reporting():
            message: pb.Job = self._client.stub.GetJob(request, **self._options())
        return message

    def _options(self) -> Any:
        return {"timeout": self._client.timeout, "metadata": self._client.metadata}
