"""Convert stored jobs and their events to the models of the REST API."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_common.http_errors import OpenAIError
from reimagen_generator.api.http.answers import (
    base64_of,
    cut_out_data,
    explanation_data,
    nothing_found_data,
    refused_data,
    usage_data,
)
from reimagen_generator.api.http.job_schema import (
    JobData,
    JobEventData,
    JobImageEvent,
    JobList,
    JobNeighborsEvent,
    JobProgressEvent,
    JobStatusEvent,
    ProgressData,
)
from reimagen_generator.api.http.schema import ImageData, NeighborData
from reimagen_generator.generation.messages import read_usage
from reimagen_generator.jobs.store import JobPage, Status, StoredJob

Link = Callable[..., str]
"""A function that returns the URL of a route from its name and parameters."""


def job_data(job: StoredJob, link: Link) -> JobData:
    """Return a job as a model."""
    message = job.message
    fields: dict[str, Any] = {}
    if message.HasField("neighbors"):
        fields = _grounding(message.neighbors, link)
    return JobData(
        id=message.id,
        status=job.status.word,
        created_at=int(message.created_at),
        started_at=int(message.started_at) if message.HasField("started_at") else None,
        finished_at=int(message.finished_at) if message.HasField("finished_at") else None,
        expires_at=int(message.expires_at) if message.HasField("expires_at") else None,
        position=message.position or None,
        request=_request_fields(job.request),
        progress=_progress(message.progress) if message.HasField("progress") else None,
        data=[
            ImageData(url=link("job_image", id=job.id, index=image.index), seed=_seed(image))
            for image in message.images
        ],
        usage=usage_data(read_usage(message.usage)) if message.HasField("usage") else None,
        error=_error(message.error) if message.HasField("error") else None,
        **fields,
    )


def job_list(page: JobPage, link: Link) -> JobList:
    """Return a page of jobs as a model."""
    data = [job_data(job, link) for job in page.jobs]
    return JobList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


def event_data(job_id: str, event: pb.JobEvent, link: Link) -> JobEventData:
    """Return an event of a job as a model."""
    match event.WhichOneof("event"):
        case "neighbors":
            return JobNeighborsEvent(created_at=event.time, **_grounding(event.neighbors, link))
        case "progress":
            preview = event.progress.preview
            return JobProgressEvent(
                created_at=event.time,
                b64_json=base64_of(preview) if preview else None,
                **_progress(event.progress).model_dump(),
            )
        case "image":
            url = link("job_image", id=job_id, index=event.image.index)
            return JobImageEvent(created_at=event.time, index=event.image.index, seed=_seed(event.image), url=url)
    word: Any = f"job.{Status(event.status).word}"
    error = _error(event.error) if event.HasField("error") else None
    return JobStatusEvent(created_at=event.time, type=word, error=error)


def _request_fields(stored: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request with their names and values in REST."""
    fields = {name: value for name, value in stored.items() if value is not None and name != "previews"}
    for name in ("references", "stages"):
        fields[name] = [
            {key: value for key, value in each.items() if value is not None} for each in stored.get(name, ())
        ]
    if "size" in fields:
        fields["size"] = f"{fields['size']}x{fields['size']}"
    return fields | {"partial_images": stored["previews"]}


def _seed(image: pb.GenerateEvent.Image) -> int | None:
    return image.seed if image.HasField("seed") else None


def _progress(progress: pb.GenerateEvent.Progress) -> ProgressData:
    return ProgressData(
        index=progress.index, stage=progress.stage, size=progress.size, step=progress.step, steps=progress.steps
    )


def _error(error: pb.JobError) -> OpenAIError:
    return OpenAIError(message=error.message, type=error.kind, param=error.field or None, code=error.code or error.kind)


def _grounding(message: pb.GenerateEvent.Neighbors, link: Link) -> dict[str, Any]:
    nothing = nothing_found_data(message.nothing_found) if message.HasField("nothing_found") else None
    cut_outs = {one.neighbor: one for one in message.cut_outs}
    return {
        "neighbors": [
            _neighbor(neighbor, cut_outs.get(index), link) for index, neighbor in enumerate(message.neighbors)
        ],
        "text_only": message.text_only,
        "nothing_found": nothing,
        "refused": refused_data(message.refused),
        "revision": message.revision,
    }


def _neighbor(neighbor: retrieval_pb2.Neighbor, cut: pb.GenerateEvent.CutOut | None, link: Link) -> NeighborData:
    pair = neighbor.pair
    of_cut_out = cut_out_data(cut_out=not cut.warning, warning=cut.warning) if cut else {}
    if not pair.id:
        return NeighborData(caption=pair.caption, **of_cut_out)
    return NeighborData(
        **of_cut_out,
        id=pair.id,
        caption=pair.caption,
        source=pair.source,
        license=pair.license,
        unsafe=pair.unsafe if pair.HasField("unsafe") else None,
        rank=neighbor.rank or None,
        score=neighbor.score if neighbor.rank else None,
        explanation=explanation_data(neighbor.explanation) if neighbor.HasField("explanation") else None,
        url=link("pair_image", id=quote(pair.id)),
    )
