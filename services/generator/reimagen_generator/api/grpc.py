"""The gRPC API, as specified in proto/reimagen/v1/generation.proto."""

import threading
from collections.abc import Iterator
from typing import Final

import grpc

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import generation_pb2_grpc
from reimagen_common.errors import InvalidArgument, Overloaded
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.generation.backend import StageDescription
from reimagen_generator.generation.messages import read_reference, read_request, write_event, write_request
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.service import GenerationService
from reimagen_generator.jobs.service import JobService, load_request, off
from reimagen_generator.jobs.store import Status, StoredJob, parse_key

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["Generation"].full_name
MESSAGE_BYTES: Final = 96 * 1024 * 1024
WATCHERS: Final = 8
"""Maximum number of calls of WatchJob at the same time, each in a thread."""

_JOBS: Final = 100
_DEFAULT_JOBS: Final = 20


class GenerationServicer(generation_pb2_grpc.GenerationServicer):
    """The gRPC service. `GrpcServer` converts its errors to gRPC statuses."""

    def __init__(self, generator: GenerationService, jobs: JobService | None, *, deadline: float) -> None:
        """Create the service.

        Args:
            generator: The service that handles the requests.
            jobs: The service of jobs, if they are stored.
            deadline: Maximum time of a request in seconds; a client may set an earlier deadline.
        """
        self._generator = generator
        self._stored_jobs = jobs
        self._free_watchers = threading.BoundedSemaphore(WATCHERS)
        self._deadline = deadline

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateEvent]:
        """Draw n images. If the client ends the call, drawing stops at the next step."""
        handle = RequestHandle(timeout=min(context.time_remaining(), self._deadline))
        if not context.add_callback(handle.cancel):
            return
        try:
            for event in self._generator.generate(read_request(request), handle):
                yield write_event(event)
        except Cancelled:
            return

    def CreateJob(self, request: pb.CreateJobRequest, context: grpc.ServicerContext) -> pb.Job:
        """Store a job and return it."""
        key = parse_key(request.idempotency_key, field="idempotency_key") if request.idempotency_key else None
        return _job(self._jobs.create(read_request(request.request), owner=current_owner(), key=key))

    def GetJob(self, request: pb.GetJobRequest, context: grpc.ServicerContext) -> pb.Job:
        """Return a job."""
        job = _job(self._jobs.get(request.id, owner=current_owner()))
        if request.with_images:
            files = [self._jobs.image(job.id, image.index, owner=current_owner()) for image in job.images]
            del job.images[:]
            job.images.extend(files)
        return job

    def ListJobs(self, request: pb.ListJobsRequest, context: grpc.ServicerContext) -> pb.ListJobsResponse:
        """Return the caller's jobs, newest first."""
        if request.limit > _JOBS:
            raise InvalidArgument(f"must be 1 to {_JOBS}, or 0 for {_DEFAULT_JOBS}; got {request.limit}", field="limit")
        if request.status not in pb.JobStatus.values():
            raise InvalidArgument(f"unknown status {request.status}", field="status")
        page = self._jobs.page(
            owner=current_owner(),
            limit=request.limit or _DEFAULT_JOBS,
            after=request.after or None,
            status=Status(request.status) if request.status else None,
        )
        return pb.ListJobsResponse(jobs=[_job(job) for job in page.jobs], has_more=page.has_more)

    def WatchJob(self, request: pb.WatchJobRequest, context: grpc.ServicerContext) -> Iterator[pb.JobEvent]:
        """Return the events of a job until it ends."""
        jobs, owner, last = self._jobs, current_owner(), request.after
        further = threading.Event()
        if not self._free_watchers.acquire(blocking=False):
            raise Overloaded(f"{WATCHERS} calls watch jobs, which is the limit; try again later", retry_after=10)
        try:
            if not context.add_callback(further.set):
                return
            with jobs.watching(request.id, further.set):
                ended = False
                while context.is_active() and not jobs.stopping:
                    further.clear()
                    events = jobs.events(request.id, owner=owner, after=last)
                    for event in events:
                        last = event.id
                        yield event
                    if not events:
                        if ended:
                            return
                        # The job may have ended after its events were read, so they are read once more.
                        ended = jobs.get(request.id, owner=owner).status.finished
                        if not ended:
                            further.wait()
        finally:
            self._free_watchers.release()

    def CancelJob(self, request: pb.CancelJobRequest, context: grpc.ServicerContext) -> pb.Job:
        """Cancel a job and return it."""
        return _job(self._jobs.cancel(request.id, owner=current_owner()))

    @property
    def _jobs(self) -> JobService:
        if self._stored_jobs is None:
            raise off()
        return self._stored_jobs

    def CutOut(self, request: pb.CutOutRequest, context: grpc.ServicerContext) -> pb.CutOutResponse:
        """Cut the object of a reference out."""
        used = self._generator.cut_out(read_reference(request.reference))
        return pb.CutOutResponse(image=used.image if used.cut_out else b"", warning=used.warning)

    def Describe(self, request: pb.DescribeCascadeRequest, context: grpc.ServicerContext) -> pb.DescribeCascadeResponse:
        """Describe the cascade or other model that draws, and its limits."""
        model = self._generator.model
        return pb.DescribeCascadeResponse(
            cascade=model.name,
            stages=[_stage(stage) for stage in model.stages],
            default_k=model.default_k,
            maximum_k=model.maximum_k,
            unsupported=sorted(model.unsupported),
        )


def _stage(stage: StageDescription) -> pb.DescribeCascadeResponse.Stage:
    return pb.DescribeCascadeResponse.Stage(
        size=stage.size,
        parameters=stage.parameters,
        retrieval_conditioned=stage.retrieval_conditioned,
        steps=stage.steps,
    )


def _job(job: StoredJob) -> pb.Job:
    message = pb.Job()
    message.CopyFrom(job.message)
    message.request.CopyFrom(write_request(load_request(job.request)))
    return message
