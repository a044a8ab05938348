"""The bodies of the routes of jobs."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reimagen_common.http_errors import OpenAIError
from reimagen_generator.api.http.schema import (
    COMPRESSION_RULE,
    STEPS_RULE,
    ImageData,
    ImagesRequest,
    NeighborData,
    NothingFoundData,
    RefusedData,
    UsageData,
)
from reimagen_generator.generation.request import PREVIEWS, Previews

StatusWord = Literal["queued", "running", "completed", "failed", "cancelled"]


class JobRequest(ImagesRequest):
    """A request for images that are drawn in the background."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [COMPRESSION_RULE, STEPS_RULE],
            "examples": [{"prompt": "a red panda in the snow", "n": 4}],
        }
    )

    previews: Previews = Field(
        0,
        alias="partial_images",
        description=f"Number of previews of the unfinished first image among the events, 0 to {PREVIEWS}.",
    )
    stream: bool = Field(
        False,
        strict=True,
        json_schema_extra={"const": False},
        description="Only false is valid; `/v1/jobs/{id}/events` returns the events.",
    )
    response_format: Literal["b64_json", "url"] = Field(
        "url", description="No effect: a job contains links to its images."
    )

    @field_validator("stream")
    @classmethod
    def _check_stream(cls, stream: bool) -> bool:
        if stream:
            raise ValueError("must be false or unset: GET /v1/jobs/{id}/events returns the events of a job")
        return stream


class ProgressData(BaseModel):
    """The last finished step."""

    index: int = Field(description="Index of the image that is being drawn, from 0; of a batch, its first.")
    stage: int = Field(description="Index of the stage in the cascade, from 0.")
    size: int = Field(description="Width and height of the stage's image in pixels.")
    step: int = Field(description="Number of steps of the stage that are done, from 1.")
    steps: int = Field(description="Number of steps of the stage.")


class JobData(BaseModel):
    """A job."""

    id: str = Field(description="Id of the job.")
    object: Literal["job"] = "job"
    status: StatusWord = Field(description="State of the job.")
    created_at: int = Field(description="Time of creation, in seconds since 1970.")
    started_at: int | None = Field(None, description="Time at which drawing began, in seconds since 1970.")
    finished_at: int | None = Field(None, description="Time at which the job ended, in seconds since 1970.")
    expires_at: int | None = Field(
        None, description="Time at which the job and its images are deleted, in seconds since 1970."
    )
    position: int | None = Field(None, description="Place in the queue, from 1 for the next job, if it is queued.")
    request: dict[str, Any] = Field(description="Fields of the request, with its seed; references have no images.")
    progress: ProgressData | None = Field(None, description="Last finished step, if any.")
    neighbors: list[NeighborData] | None = Field(None, description="Neighbors, best first, once they are found.")
    text_only: bool | None = Field(None, description="Whether there are no neighbors, once this is known.")
    nothing_found: NothingFoundData | None = Field(None, description="Reason if there are no neighbors.")
    refused: list[RefusedData] | None = Field(
        None, description="Pairs that were found and that the operator's policy left out, if any."
    )
    revision: str | None = Field(None, description="Revision of the knowledge base; empty if nothing was retrieved.")
    data: list[ImageData] = Field(description="Links to the finished images, in the order of their seeds.")
    usage: UsageData | None = Field(None, description="What the job used, once it is completed.")
    error: OpenAIError | None = Field(None, description="Why the job failed.")


class JobList(BaseModel):
    """Some of the jobs, newest first, in the shape of OpenAI's lists."""

    object: Literal["list"] = "list"
    data: list[JobData] = Field(description="Jobs, newest first.")
    first_id: str | None = Field(None, description="Id of the first job.")
    last_id: str | None = Field(None, description="Id of the last job; pass it as `after` for older ones.")
    has_more: bool = Field(description="Whether there are older jobs.")


class _Event(BaseModel):
    created_at: float = Field(description="Time of the event, in seconds since 1970.")


class JobStatusEvent(_Event):
    """The event that a job has another state. A job that is queued twice was interrupted by a restart."""

    type: Literal["job.queued", "job.running", "job.completed", "job.failed", "job.cancelled"]
    error: OpenAIError | None = Field(None, description="Why the job failed.")


class JobNeighborsEvent(_Event):
    """The event that the neighbors are found."""

    type: Literal["job.neighbors"] = "job.neighbors"
    neighbors: list[NeighborData] = Field(description="Neighbors, best first.")
    text_only: bool = Field(description="Whether there are no neighbors.")
    nothing_found: NothingFoundData | None = Field(None, description="Reason if there are no neighbors.")
    refused: list[RefusedData] | None = Field(
        None, description="Pairs that were found and that the operator's policy left out, if any."
    )
    revision: str = Field(description="Revision of the knowledge base; empty if nothing was retrieved.")


class JobProgressEvent(_Event, ProgressData):
    """The event that a step is done."""

    type: Literal["job.progress"] = "job.progress"
    b64_json: str | None = Field(None, description="Preview of the first image, a PNG file as base64, if one is due.")


class JobImageEvent(_Event):
    """The event that an image is finished."""

    type: Literal["job.image"] = "job.image"
    index: int = Field(description="Index of the image, from 0.")
    seed: int | None = Field(None, description="Seed of the image. Unset if the model has no seeds.")
    url: str = Field(description="Link to the image file.")


JobEventData = JobStatusEvent | JobNeighborsEvent | JobProgressEvent | JobImageEvent
JOB_EVENTS: Final = (JobStatusEvent, JobNeighborsEvent, JobProgressEvent, JobImageEvent)

Limit = Annotated[int, Field(ge=1, le=100, description="Maximum number of jobs.")]
