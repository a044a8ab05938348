"""The calls of the gRPC API, shared by both clients: each says what to send and how to read the answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from reimagen.v1 import generation_pb2 as pb
from reimagen_client.errors import NotFound
from reimagen_client.grpc_messages import cut_out_request, list_request, request_message
from reimagen_client.grpc_results import cut_out_of, images_of, job_of, page_of
from reimagen_client.models import CutOut, Image, Job, JobPage, JobStatus
from reimagen_client.options import Reference

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and the parser of its answer."""

    method: str
    """Name of the method of the service."""
    request: Message
    """Message to send."""
    read: Callable[[Any], T]
    """Returns the result from the message of the answer."""


def cut_out(image: bytes | str | Path | Reference) -> Call[CutOut]:
    """Return the call that cuts the object of an image, or of a reference, out."""
    return Call("CutOut", cut_out_request(image), cut_out_of)


def create_job(prompt: str, options: Mapping[str, Any], previews: int) -> Call[Job]:
    """Return the call that creates a job."""
    return Call("CreateJob", pb.CreateJobRequest(request=request_message(prompt, options, previews)), job_of)


def get_job(job_id: str) -> Call[Job]:
    """Return the call that reads a job."""
    return Call("GetJob", pb.GetJobRequest(id=job_id), job_of)


def list_jobs(limit: int, after: str | None, status: JobStatus | None) -> Call[JobPage]:
    """Return the call that lists jobs."""
    return Call("ListJobs", list_request(limit, after, status), page_of)


def cancel_job(job_id: str) -> Call[Job]:
    """Return the call that cancels a job."""
    return Call("CancelJob", pb.CancelJobRequest(id=job_id), job_of)


def job_image(job_id: str, index: int) -> Call[bytes]:
    """Return the call that reads an image of a job."""
    return Call("GetJob", pb.GetJobRequest(id=job_id, with_images=True), partial(_image, index))


def job_images(job_id: str) -> Call[tuple[Image, ...]]:
    """Return the call that reads the finished images of a job."""
    return Call("GetJob", pb.GetJobRequest(id=job_id, with_images=True), images_of)


def _image(index: int, message: pb.Job) -> bytes:
    for image in images_of(message):
        if image.index == index:
            return image.content
    raise NotFound(f"index: the job has no finished image {index}", field="index")
