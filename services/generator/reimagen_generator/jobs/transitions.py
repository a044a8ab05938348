"""What becomes of a job's message, the same in every store."""

import time
from collections.abc import Mapping
from itertools import repeat
from typing import Any, Final

from reimagen.v1 import generation_pb2 as pb
from reimagen_common.errors import NotFound, Overloaded, Unprocessable
from reimagen_generator.jobs.store import Key, Status, Use

RETRY_SECONDS: Final = 10.0
"""Seconds after which a request to a full store, or to one that fails, may be sent again."""
EVENTS: Final = 256
"""Maximum number of events in one answer of `events`."""
GAP: Final = 1_000_000
"""Ids of events that a crash skips. It may lose the last events, whose ids clients saw and must not see again."""


def new_message(job_id: str) -> pb.Job:
    """Return the message of a new job."""
    return pb.Job(id=job_id, status=Status.QUEUED.value, created_at=time.time())


def start(message: pb.Job) -> pb.JobEvent:
    """Set a queued job to running, and return the event."""
    message.status = Status.RUNNING.value
    message.started_at = time.time()
    return pb.JobEvent(status=message.status)


def requeue(message: pb.Job) -> pb.JobEvent:
    """Queue a job again, forget its images, and return the event."""
    message.status = Status.QUEUED.value
    for field in ("started_at", "progress", "neighbors", "images"):
        message.ClearField(field)
    return pb.JobEvent(status=message.status)


def add_event(message: pb.Job, event: pb.JobEvent) -> None:
    """Make an event of neighbors or progress part of a running job."""
    match event.WhichOneof("event"):
        case "neighbors":
            message.neighbors.CopyFrom(event.neighbors)
        case "progress":
            message.progress.CopyFrom(event.progress)
            message.progress.ClearField("preview")


def grounded_pairs(request: Mapping[str, Any], neighbors: pb.GenerateEvent.Neighbors) -> set[str]:
    """Return the ids of the pairs that a job is grounded on: its neighbors without references of weight 0."""
    weights = [reference.get("weight", 1) for reference in request.get("references", ())]
    found = zip(neighbors.neighbors, weights or repeat(1), strict=False)
    return {neighbor.pair.id for neighbor, weight in found if weight and neighbor.pair.id}


def is_kept(message: pb.Job) -> bool:
    """Return whether a job has images or may still get some."""
    return bool(message.images) or not Status(message.status).finished


def use(owner: str, message: pb.Job) -> Use:
    """Return a job as a use of its pairs."""
    return Use(message.id, owner, Status(message.status), len(message.images), message.created_at)


def add_image(message: pb.Job, image: pb.GenerateEvent.Image) -> pb.JobEvent:
    """Make an image part of a running job without its file, and return the event."""
    without_file = pb.GenerateEvent.Image()
    without_file.CopyFrom(image)
    without_file.ClearField("image")
    message.images.append(without_file)
    return pb.JobEvent(image=without_file)


def finish(
    message: pb.Job, status: Status, *, retention_seconds: float, usage: pb.Usage | None, error: pb.JobError | None
) -> pb.JobEvent:
    """End a job, and return the event."""
    message.status = status.value
    message.finished_at = time.time()
    message.expires_at = message.finished_at + retention_seconds
    message.MergeFrom(pb.Job(usage=usage, error=error))
    return pb.JobEvent(status=message.status, error=error)


def refuse_if_full(unfinished: int, capacity: int) -> None:
    """Check the number of unfinished jobs before another is added.

    Raises:
        Overloaded: There are `capacity`.
    """
    if unfinished >= capacity:
        raise Overloaded(
            f"{unfinished} jobs are unfinished, which is the limit; try again later", retry_after=RETRY_SECONDS
        )


def check_key(key: Key, digest: str) -> None:
    """Check that a key that was used before is sent with the same request.

    Raises:
        Unprocessable: The request has another digest.
    """
    if key.digest != digest:
        raise Unprocessable("was used for another request; use a new key for each request", field="Idempotency-Key")


def find_image(message: pb.Job, index: int) -> pb.GenerateEvent.Image:
    """Return a finished image of a job, without its file.

    Raises:
        NotFound: It is not finished.
    """
    image = next((image for image in message.images if image.index == index), None)
    if image is None:
        raise NotFound(f"the job has no finished image {index}", field="index")
    return image


def not_found() -> NotFound:
    """Return the error of requests for a job that the owner does not have."""
    return NotFound("there is no such job; finished jobs expire", field="id")


def expired() -> NotFound:
    """Return the error of requests for a file of a job that expires meanwhile."""
    return NotFound("the job has expired", field="id")


def reference_name(number: int) -> str:
    """Return the name of the file of a reference."""
    return f"reference-{number}"


def image_name(index: int) -> str:
    """Return the name of the file of an image."""
    return f"image-{index}"
