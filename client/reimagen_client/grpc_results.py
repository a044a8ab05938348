"""Read the results and events of the gRPC API."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_client.errors import DeadlineExceeded, ReimagenError, Unavailable
from reimagen_client.models import (
    CutOut,
    Done,
    Event,
    Generation,
    Image,
    Job,
    JobEvent,
    JobImage,
    JobImageDone,
    JobPage,
    JobStatusChanged,
    Neighbor,
    NothingFound,
    Preview,
    Progress,
    RefusedPair,
    Retrieved,
    Usage,
)


class ImageMessages:
    """The messages of a call that draws images."""

    def __init__(self, prompt: str) -> None:
        """Wait for the first message."""
        self._prompt = prompt
        self._seed: int | None = None
        self._previews = 0

    def read(self, message: pb.GenerateEvent) -> list[Event]:
        """Return the events that a message contains: a step may have a preview."""
        match message.WhichOneof("event"):
            case "accepted":
                self._seed = _seed(message.accepted)
            case "neighbors":
                return [retrieved(message.neighbors, self._seed)]
            case "progress":
                step: list[Event] = [_progress(message.progress)]
                if not message.progress.HasField("preview"):
                    return step
                self._previews += 1
                return [*step, Preview(number=self._previews - 1, content=message.progress.preview)]
            case "image":
                return [Done(image=_image(message.image, self._prompt))]
        return []


def generation(events: Sequence[Event]) -> Generation:
    """Return the images of all events of a call, and their neighbors."""
    found = next((event for event in events if isinstance(event, Retrieved)), Retrieved())
    images = sorted((event.image for event in events if isinstance(event, Done)), key=lambda image: image.index)
    seed = images[0].seed if images else None
    return Generation(**dict(found) | {"images": tuple(images), "seed": seed})


class JobMessages:
    """The messages of calls that watch a job, over as many calls as are needed."""

    def __init__(self) -> None:
        """Begin with the first event."""
        self.last = 0
        """Id of the last event."""
        self.ended = False
        """Whether the job has ended."""
        self._resumed = 0

    def read(self, message: pb.JobEvent) -> list[JobEvent]:
        """Return the events that a message contains: a step may have a preview."""
        self.last = message.id
        match message.WhichOneof("event"):
            case "status":
                error = _error(message.error) if message.HasField("error") else None
                changed = JobStatusChanged.model_validate({"status": _status(message.status), "error": error})
                self.ended = changed.ended
                return [changed]
            case "neighbors":
                return [retrieved(message.neighbors, None)]
            case "progress":
                step: list[JobEvent] = [_progress(message.progress)]
                has_preview = message.progress.HasField("preview")
                return [*step, Preview(content=message.progress.preview)] if has_preview else step
            case "image":
                return [JobImageDone(image=_job_image(message.image))]
        return []

    def resume(self, error: ReimagenError | None) -> None:
        """Prepare for another call after one that ended early, by an error if there is one.

        Raises:
            ReimagenError: The call had no event, so that another one may have none either, or was refused.
        """
        passing = error is None or isinstance(error, Unavailable | DeadlineExceeded)
        if not passing or self.last == self._resumed:
            raise error or Unavailable("the events of the job ended before the job; watch it again")
        self._resumed = self.last


def job_of(message: pb.Job) -> Job:
    """Return a job. The fields of its request have the names and values of gRPC."""
    fields: dict[str, Any] = {
        name: int(time)
        for name, time in (
            ("started_at", message.started_at),
            ("finished_at", message.finished_at),
            ("expires_at", message.expires_at),
        )
        if time
    }
    if message.HasField("progress"):
        fields["progress"] = _progress(message.progress)
    if message.HasField("usage"):
        fields["usage"] = _usage(message.usage)
    if message.HasField("error"):
        fields["error"] = _error(message.error)
    return Job.model_validate(
        fields
        | {
            "id": message.id,
            "status": _status(message.status),
            "created_at": int(message.created_at),
            "position": message.position or None,
            "request": MessageToDict(message.request, preserving_proto_field_name=True),
            "neighbors": _neighbors(message.neighbors),
            "images": tuple(map(_job_image, message.images)),
        }
    )


def page_of(message: pb.ListJobsResponse) -> JobPage:
    """Return some of the jobs."""
    return JobPage(jobs=tuple(map(job_of, message.jobs)), has_more=message.has_more)


def images_of(message: pb.Job) -> tuple[Image, ...]:
    """Return the finished images of a job whose message has the files, in the order of their indexes."""
    images = sorted(message.images, key=lambda image: image.index)
    return tuple(_image(image, message.request.prompt) for image in images)


def retrieved(message: pb.GenerateEvent.Neighbors, seed: int | None) -> Retrieved:
    """Return the neighbors that a message contains."""
    nothing = message.nothing_found
    return Retrieved(
        neighbors=_neighbors(message),
        text_only=message.text_only,
        revision=message.revision,
        seed=seed,
        nothing_found=NothingFound(
            reason=nothing.reason,
            field=nothing.field or None,
            nearest=nothing.nearest.caption or None,
            nearest_id=nothing.nearest.id or None,
            lacking=tuple(nothing.lacking),
        )
        if message.HasField("nothing_found")
        else None,
        refused=tuple(RefusedPair(id=pair.id, reason=pair.reason) for pair in message.refused),
    )


def cut_out_of(message: pb.CutOutResponse) -> CutOut:
    """Return the cut-out that a message contains."""
    return CutOut(image=message.image or None, warning=message.warning or None)


def _neighbors(message: pb.GenerateEvent.Neighbors) -> tuple[Neighbor, ...]:
    warnings = {one.neighbor: one.warning for one in message.cut_outs}
    return tuple(_neighbor(neighbor, warnings.get(index)) for index, neighbor in enumerate(message.neighbors))


def _neighbor(neighbor: retrieval_pb2.Neighbor, warning: str | None) -> Neighbor:
    """Return a neighbor; `warning` is why it was not cut out, "" if it was, None if that was not requested."""
    pair = neighbor.pair
    cut = {"cut_out": warning == "" or None, "warning": warning or None}
    if not pair.id:
        return Neighbor(caption=pair.caption, image=(pair.image or None) if cut["cut_out"] else None, **cut)
    return Neighbor(
        **cut,
        id=pair.id,
        caption=pair.caption,
        source=pair.source,
        license=pair.license,
        unsafe=pair.unsafe if pair.HasField("unsafe") else None,
        rank=neighbor.rank,
        score=neighbor.score,
        image=pair.image or None,
    )


def _seed(message: pb.GenerateEvent.Accepted | pb.GenerateEvent.Image) -> int | None:
    return message.seed if message.HasField("seed") else None


def _image(message: pb.GenerateEvent.Image, prompt: str) -> Image:
    return Image(index=message.index, seed=_seed(message), content=message.image, prompt=prompt)


def _job_image(message: pb.GenerateEvent.Image) -> JobImage:
    return JobImage(index=message.index, seed=_seed(message))


def _progress(step: pb.GenerateEvent.Progress) -> Progress:
    return Progress(index=step.index, stage=step.stage, size=step.size, step=step.step, steps=step.steps)


def _usage(usage: pb.Usage) -> Usage:
    tokens = usage.text_tokens + usage.input_image_tokens
    return Usage(
        input_tokens=tokens,
        output_tokens=usage.output_image_tokens,
        total_tokens=tokens + usage.output_image_tokens,
        steps=usage.steps,
        evaluations=usage.evaluations,
    )


def _error(error: pb.JobError) -> dict[str, Any]:
    return {
        "message": error.message,
        "type": error.kind,
        "param": error.field or None,
        "code": error.code or error.kind,
    }


def _status(status: pb.JobStatus.ValueType) -> str:
    return pb.JobStatus.Name(status).removeprefix("JOB_STATUS_").lower()
