"""The interface of a store of jobs."""

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from reimagen.v1 import generation_pb2 as pb
from reimagen_common.errors import InvalidArgument

_ID_BYTES: Final = 24
_KEY: Final = re.compile(r"[!-~]{1,255}")


class Status(Enum):
    """The state of a job."""

    QUEUED = pb.JOB_STATUS_QUEUED
    RUNNING = pb.JOB_STATUS_RUNNING
    COMPLETED = pb.JOB_STATUS_COMPLETED
    FAILED = pb.JOB_STATUS_FAILED
    CANCELLED = pb.JOB_STATUS_CANCELLED

    @property
    def word(self) -> str:
        """The state in lower case."""
        return self.name.lower()

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass(frozen=True)
class Key:
    """A client's key for a job, and the digest of the request that it was first sent with."""

    text: str
    digest: str


@dataclass(frozen=True)
class NewJob:
    """A job to store."""

    owner: str
    """Id of the caller that the job belongs to."""
    request: dict[str, Any]
    """Fields of the request as JSON, without the images of its references."""
    references: Sequence[bytes]
    """Image files of the request's references."""
    key: Key | None = None


@dataclass(frozen=True)
class StoredJob:
    """A job as it is stored."""

    owner: str
    request: dict[str, Any]
    message: pb.Job
    """Everything else. `request` is empty, and `images` have no files."""
    attempts: int
    """Number of times that the job was started."""

    @property
    def id(self) -> str:
        """The id of the job."""
        return self.message.id

    @property
    def status(self) -> Status:
        """The state of the job."""
        return Status(self.message.status)


@dataclass(frozen=True)
class Use:
    """A job that is grounded on a pair, without its request, which only its owner may see."""

    job_id: str
    owner: str
    """Id of the caller that the job belongs to."""
    status: Status
    images: int
    """Number of its finished images."""
    created: float
    """Time of its creation, in seconds since 1970."""


@dataclass(frozen=True)
class JobPage:
    """Some of the jobs of an owner."""

    jobs: Sequence[StoredJob]
    has_more: bool
    """Whether there are older jobs."""


class JobStore(Protocol):
    """A durable store of jobs. All methods are thread-safe and raise Unavailable if it cannot be written."""

    def add(self, new: NewJob, *, capacity: int) -> StoredJob:
        """Store a job durably and return it, or return the job that the owner added earlier with the same key.

        Raises:
            Overloaded: `capacity` jobs are unfinished.
            Unprocessable: The key was used for another request.
        """
        ...

    def get(self, job_id: str, owner: str) -> StoredJob:
        """Return a job.

        Raises:
            NotFound: The owner has no such job, or it has expired.
        """
        ...

    def page(self, owner: str, *, limit: int, after: str | None, status: Status | None) -> JobPage:
        """Return the owner's jobs, newest first.

        Args:
            owner: Id of the caller.
            limit: Maximum number of jobs.
            after: Id of a job; only older ones are returned.
            status: The state of the jobs. None returns all.

        Raises:
            NotFound: The owner has no job `after`.
        """
        ...

    def unfinished(self) -> int:
        """Return the number of unfinished jobs of all owners."""
        ...

    def oldest(self, *, excluding: Collection[str]) -> StoredJob | None:
        """Return the oldest queued job without some, by their ids. Return None if there is none."""
        ...

    def start(self, job_id: str) -> bool:
        """Set a queued job to running. Return whether it was queued."""
        ...

    def requeue(self, job_id: str) -> None:
        """Queue a running job again and forget its images. It keeps its place in the queue."""
        ...

    def references(self, job_id: str) -> list[bytes]:
        """Return the image files of a job's references."""
        ...

    def add_event(self, job_id: str, event: pb.JobEvent) -> None:
        """Store an event of a running job, with the next id; it also becomes part of the job."""
        ...

    def add_image(self, job_id: str, image: pb.GenerateEvent.Image) -> None:
        """Store a finished image of a running job durably, with its event."""
        ...

    def finish(
        self, job_id: str, status: Status, *, usage: pb.Usage | None = None, error: pb.JobError | None = None
    ) -> bool:
        """End an unfinished job durably. Return whether it was unfinished."""
        ...

    def events(self, job_id: str, owner: str, *, after: int) -> list[pb.JobEvent]:
        """Return some events of a job after the one with the id `after`, in order; none if there are no more now.

        Raises:
            NotFound: The owner has no such job, or it has expired.
        """
        ...

    def image(self, job_id: str, owner: str, index: int) -> pb.GenerateEvent.Image:
        """Return a finished image of a job with its file.

        Raises:
            NotFound: The owner has no such job, or the image is not finished, or the job has expired.
        """
        ...

    def uses(self, pair_id: str, *, limit: int) -> list[Use]:
        """Return the jobs of all owners that are grounded on a pair, newest first.

        Ended jobs without images are left out, and so are references of weight 0, which change no image.
        """
        ...

    def delete_expired(self) -> int:
        """Delete jobs that have expired, and return their number."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...


def parse_key(text: str, *, field: str) -> str:
    """Return an idempotency key: a string in quotes, as in the IETF's draft, or without, as many clients send it.

    Raises:
        InvalidArgument: The key is not 1 to 255 visible ASCII characters. The error names `field`.
    """
    key = text.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise InvalidArgument("must be 1 to 255 visible ASCII characters, such as a UUID", field=field)
    return key


def new_id() -> str:
    """Return an id that cannot be guessed."""
    return f"job_{secrets.token_urlsafe(_ID_BYTES)}"
