"""Create, run, watch and cancel jobs."""

import logging
import math
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from reimagen.v1 import generation_pb2 as pb
from reimagen_common import tracing
from reimagen_common.access.caller import Caller, acting_as
from reimagen_common.access.rights import Right
from reimagen_common.errors import NotFound, Overloaded, ReimagenError, Unavailable
from reimagen_generator import metrics
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.work import Priority
from reimagen_generator.generation.digest import fields_as_json, request_digest
from reimagen_generator.generation.messages import write_event, write_neighbors, write_usage
from reimagen_generator.generation.request import SEEDS, GenerationRequest
from reimagen_generator.generation.retriever_client import Neighbors
from reimagen_generator.generation.service import Accepted, Event, GenerationService, Image
from reimagen_generator.generation.usage import UsageMeter
from reimagen_generator.jobs.store import JobPage, JobStore, Key, NewJob, Status, StoredJob, Use

_ATTEMPTS: Final = 3
_EXPIRY_SECONDS: Final = 60.0
# Pause of a runner after the store has failed.
_RETRY_SECONDS: Final = 2.0
_REQUEST_FIELDS: Final = frozenset(GenerationRequest.model_fields)

_logger = logging.getLogger(__name__)


class JobService:
    """The service of jobs. REST and gRPC are thin layers over it."""

    def __init__(
        self, generator: GenerationService, store: JobStore, *, capacity: int, runners: int, deadline: float
    ) -> None:
        """Create the service. It runs jobs from `start` on.

        Args:
            generator: The service that draws.
            store: The store of the jobs.
            capacity: Maximum number of unfinished jobs.
            runners: Number of jobs that are run at the same time, each in a place of the engine.
            deadline: Maximum time of a job in seconds, after its admission to the engine.
        """
        self._generator = generator
        self._store = store
        self._capacity = capacity
        self._deadline = deadline
        self._stopping = self._closed = False
        self._changed = threading.Condition()
        self._handles: dict[str, RequestHandle | None] = {}
        """Of the jobs that runners have taken. None before a job's first request to the engine."""
        self._unended: set[str] = set()
        """Jobs that have ended, but are stored as running."""
        self._failure: str | None = None
        """Why the store failed when a runner last asked it."""
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"jobs-{number}", daemon=True) for number in range(runners)
        ]

    @property
    def stopping(self) -> bool:
        """Whether the service stops, so that streams of events should end."""
        return self._stopping

    def degraded_reason(self) -> str | None:
        """Return why the store of jobs does not work, as a runner last saw it, or None if it does."""
        return self._failure

    def start(self) -> None:
        """Begin to run jobs, first those that were interrupted."""
        metrics.JOBS_UNFINISHED.set_function(self._unfinished)
        for thread in self._threads:
            thread.start()

    def stop_taking(self) -> None:
        """Refuse new jobs and begin no further ones. Those that run may end or are interrupted by the engine's stop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            watchers = [notify for of_job in self._watchers.values() for notify in of_job]
        for notify in watchers:
            notify()

    def close(self) -> None:
        """Wait for the runners after the engine has stopped, and close the store."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._closed = True
        self._store.close()

    def admit(self) -> None:
        """Raise an error if no new job is accepted now.

        Raises:
            Overloaded: Too many jobs are unfinished.
            Unavailable: The service is stopping.
        """
        if self._stopping:
            raise Unavailable("the service is stopping; try again soon", retry_after=5)
        count = self._store.unfinished()
        if count >= self._capacity:
            raise Overloaded(f"{count} jobs are unfinished, which is the limit; try again later", retry_after=10)

    def create(self, request: GenerationRequest, *, owner: str, key: str | None = None) -> StoredJob:
        """Store a job durably and return it, or return the job that was created with the same key and request.

        Raises:
            InvalidArgument: The model does not support a field's value, or a reference cannot be read.
            Unprocessable: The key was used for another request.
            Overloaded: Too many jobs are unfinished.
            Unavailable: The service is stopping, or the store cannot be written.
        """
        if self._stopping:
            raise Unavailable("the service is stopping; try again soon", retry_after=5)
        self._generator.check(request)
        fields = fields_as_json(request, _REQUEST_FIELDS)
        digest = request_digest(request, fields)
        if request.seed is None and self._generator.model.has_seeds:
            fields["seed"] = secrets.randbelow(SEEDS)
        new = NewJob(
            owner=owner,
            request=fields,
            references=[reference.image for reference in request.references],
            key=Key(key, digest) if key else None,
        )
        job = self._store.add(new, capacity=self._capacity)
        _logger.info("job created", extra={"job": job.id})
        with self._changed:
            self._changed.notify()
        return job

    def get(self, job_id: str, *, owner: str) -> StoredJob:
        """Return a job.

        Raises:
            NotFound: The owner has no such job, or it has expired.
        """
        return self._store.get(job_id, owner)

    def page(self, *, owner: str, limit: int, after: str | None = None, status: Status | None = None) -> JobPage:
        """Return the owner's jobs, newest first; see `JobStore.page`."""
        return self._store.page(owner, limit=limit, after=after, status=status)

    def image(self, job_id: str, index: int, *, owner: str) -> pb.GenerateEvent.Image:
        """Return a finished image of a job with its file.

        Raises:
            NotFound: The owner has no such job, or the image is not finished, or the job has expired.
        """
        return self._store.image(job_id, owner, index)

    def uses(self, pair_id: str, *, limit: int) -> list[Use]:
        """Return the jobs of all owners that are grounded on a pair, newest first; see `JobStore.uses`."""
        return self._store.uses(pair_id, limit=limit)

    def cancel(self, job_id: str, *, owner: str) -> StoredJob:
        """Cancel a job and return it. A finished job stays as it is.

        Raises:
            NotFound: The owner has no such job, or it has expired.
        """
        self._store.get(job_id, owner)
        if self._finish(job_id, Status.CANCELLED):
            with self._changed:
                handle = self._handles.get(job_id)
            if handle is not None:
                handle.cancel()
            self._tell(job_id)
        return self._store.get(job_id, owner)

    def events(self, job_id: str, *, owner: str, after: int) -> list[pb.JobEvent]:
        """Return some events of a job after the one with the id `after`; none if there are no more now.

        Raises:
            NotFound: The owner has no such job, or it has expired.
        """
        return self._store.events(job_id, owner, after=after)

    @contextmanager
    def watching(self, job_id: str, notify: Callable[[], None]) -> Iterator[None]:
        """Call a function, from any thread, whenever the job has further events. The function must not block."""
        with self._changed:
            self._watchers.setdefault(job_id, set()).add(notify)
        try:
            yield
        finally:
            with self._changed:
                watchers = self._watchers[job_id]
                watchers.discard(notify)
                if not watchers:
                    del self._watchers[job_id]

    def _unfinished(self) -> float:
        with suppress(Unavailable):  # /metrics answers even if the store does not.
            return math.nan if self._closed else self._store.unfinished()
        return math.nan

    def _finish(
        self, job_id: str, status: Status, *, usage: pb.Usage | None = None, error: pb.JobError | None = None
    ) -> bool:
        """End a job. Return whether it was unfinished."""
        if not self._store.finish(job_id, status, usage=usage, error=error):
            return False
        metrics.JOBS.labels(status.word).inc()
        _logger.info("job ended", extra={"job": job_id, "status": status.word})
        return True

    def _tell(self, job_id: str) -> None:
        with self._changed:
            watchers = list(self._watchers.get(job_id, ()))
        for notify in watchers:
            notify()

    def _work(self) -> None:
        while not self._stopping:
            job, pause = None, _EXPIRY_SECONDS
            try:
                self._store.delete_expired()
                self._queue_unended()
                job = self._take()
                self._failure = None
            except Exception as error:
                # The runner must survive: the disk may have space again, or the Redis answer again.
                _logger.exception("the store of jobs failed")
                self._failure = f"no jobs are served: {error}"
                pause = _RETRY_SECONDS
            if job is None:
                with self._changed:
                    if not self._stopping:
                        self._changed.wait(pause)
                continue
            self._run(job)

    def _queue_unended(self) -> None:
        """Queue the jobs again whose end could not be stored."""
        with self._changed:
            for job_id in list(self._unended):
                self._store.requeue(job_id)
                self._unended.remove(job_id)
                self._tell(job_id)

    def _take(self) -> StoredJob | None:
        """Return the oldest queued job that no runner has taken, and take it."""
        with self._changed:
            job = self._store.oldest(excluding=self._handles)
            if job is not None:
                self._handles[job.id] = None
            return job

    def _run(self, job: StoredJob) -> None:
        try:
            if job.attempts >= _ATTEMPTS:
                raise ReimagenError(f"the service stopped {_ATTEMPTS} times while this job ran")
            with tracing.span("job", {"job": job.id}):
                usage = self._draw(job)
            self._finish(job.id, Status.COMPLETED, usage=usage)
        except Exception as error:  # noqa: BLE001  (a runner must survive any error of a job)
            self._end(job, error)
        finally:
            with self._changed:
                self._handles.pop(job.id, None)
        self._tell(job.id)

    def _end(self, job: StoredJob, error: Exception) -> None:
        try:
            if self._stopping:
                self._store.requeue(job.id)
                return
            if isinstance(error, Cancelled):
                self._finish(job.id, Status.CANCELLED)
                return
            if not isinstance(error, ReimagenError):
                _logger.error("a job failed", exc_info=error, extra={"job": job.id})
                error = ReimagenError("the service failed; see its log for the cause")
            job_error = pb.JobError(
                message=error.message, kind=error.kind, field=error.field or "", code=error.code or ""
            )
            self._finish(job.id, Status.FAILED, error=job_error)
        except Exception:
            _logger.exception("the end of a job could not be stored", extra={"job": job.id})
            with self._changed:
                self._unended.add(job.id)

    def _draw(self, job: StoredJob) -> pb.Usage:
        request = load_request(job.request, self._store.references(job.id))
        meter = UsageMeter(request.prompt, first_size=self._generator.model.sizes[0])
        for event in self._events(job, request):
            meter.add(event)
            match event:
                case Accepted():
                    if not self._store.start(job.id):
                        raise Cancelled
                case Image():
                    self._store.add_image(job.id, write_event(event).image)
                case Neighbors():
                    self._store.add_event(job.id, pb.JobEvent(neighbors=_without_images(event)))
                case _:
                    self._store.add_event(job.id, pb.JobEvent(progress=write_event(event).progress))
            self._tell(job.id)
        return write_usage(meter.usage)

    def _events(self, job: StoredJob, request: GenerationRequest) -> Iterator[Event]:
        """Yield the events of the generation, which waits for a place in the engine."""
        handle = RequestHandle(timeout=self._deadline)
        with self._changed:
            self._handles[job.id] = handle
        if self._store.get(job.id, job.owner).status is not Status.QUEUED:
            raise Cancelled
        with acting_as(Caller(job.owner, frozenset(Right))):
            yield from self._generator.generate(request, handle, Priority.BACKGROUND)


def load_request(fields: dict[str, Any], references: list[bytes] | None = None) -> GenerationRequest:
    """Return the request of a stored job.

    Args:
        fields: The stored fields.
        references: The image files of its references, empty for pairs. None leaves their images empty.
    """
    stored = fields.get("references", ())
    images = [b"-"] * len(stored) if references is None else references
    given = [
        reference if reference.get("pair_id") else reference | {"image": image}
        for image, reference in zip(images, stored, strict=True)
    ]
    return GenerationRequest.model_validate(fields | {"references": given})


def _without_images(event: Neighbors) -> pb.GenerateEvent.Neighbors:
    message = write_neighbors(event)
    for neighbor in message.neighbors:
        neighbor.pair.ClearField("image")
    return message


def off() -> NotFound:
    """Return the error of all requests for jobs if no store of jobs is set."""
    return NotFound(
        "this service keeps no jobs; its operator can set REIMAGEN_GENERATOR_JOBS to a folder, or "
        "REIMAGEN_GENERATOR_JOBS_REDIS_URL to a Redis"
    )
