"""Write requests of the gRPC API from options, and read its errors."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_client.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    ReimagenError,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from reimagen_client.models import JobStatus
from reimagen_client.options import Reference, check_names, references_of, retrieval_of, size_text
from reimagen_client.settings import DEFAULT_GRPC, check_key

Metadata = tuple[tuple[str, str], ...]

MESSAGE_BYTES: Final = 96 * 1024 * 1024
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)
# Trailing metadata of errors.
_FIELD: Final = "reimagen-field"
_CODE: Final = "reimagen-code"
_RETRY: Final = "grpc-retry-pushback-ms"
_FILTERS: Final = ("licenses", "sources", "minimum_side", "safe_only", "exclude_ids")
# Words of the REST API that are no names of the enumeration.
_SAMPLERS: Final[Mapping[Any, str]] = {"dpm-solver++": "dpm_solver"}
_ERRORS: Final[Mapping[grpc.StatusCode, type[ReimagenError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def request_message(prompt: str, options: Mapping[str, Any], previews: int = 0) -> pb.GenerateRequest:
    """Return the message of a request for images.

    Raises:
        InvalidRequest: An option cannot be sent over gRPC, or a value does not fit.
        TypeError: An option is unknown.
    """
    check_names(options)
    message = pb.GenerateRequest(prompt=prompt, previews=previews)
    if options.get("model") is not None:
        raise InvalidRequest("model: the gRPC API has one cascade; leave it out", field="model")
    if options.get("size") is not None and (side := size_text(options["size"]).partition("x")[0]) != "auto":
        _set(message, "size", int(side) if side.isdecimal() else side)
    for name in ("n", "seed", "output_compression", "user", "negative_prompt", "steps"):
        _set(message, name, options.get(name))
    _set(message, "output_format", _number(pb.OutputFormat, "OUTPUT_FORMAT", options.get("output_format")))
    quality = options.get("quality")
    _set(message, "quality", _number(pb.Quality, "QUALITY", None if quality == "auto" else quality))
    _set_sampler(message, options.get("sampler"))
    _set_retrieval(message.retrieval, retrieval_of(options))
    _set_guidance(message.guidance, options.get("guidance") or {})
    for stage in options.get("stages") or ():
        _set_stage(message.stages.add(), stage)
    for reference in references_of(options):
        _set_reference(message.references.add(), reference, prompt)
    return message


def cut_out_request(image: bytes | str | Path | Reference) -> pb.CutOutRequest:
    """Return the message that asks for the cut-out of an image, or of a reference.

    Raises:
        InvalidRequest: The image cannot be read.
    """
    message = pb.CutOutRequest()
    _set_reference(message.reference, image if isinstance(image, Reference) else Reference(image=image), "")
    return message


def _set_reference(message: pb.Reference, reference: Reference, prompt: str) -> None:
    _set(message, "image", reference.content())
    _set(message, "caption", reference.caption_for(prompt))
    for name in ("id", "pair_id", "weight", "cut_out"):
        _set(message, name, getattr(reference, name))


def _set_retrieval(message: pb.GenerateRequest.Retrieval, retrieval: Mapping[str, Any]) -> None:
    fields = dict(retrieval)
    for name, enum in (("method", retrieval_pb2.Method), ("relevance", retrieval_pb2.Relevance)):
        _set(message, name, _number(enum, name.upper(), fields.pop(name, None)))
    for name in _FILTERS:
        _set(message.filters, name, fields.pop(name, None))
    for name, value in fields.items():
        _set(message, name, value)


def _set_stage(message: pb.StageChange, stage: Mapping[str, Any]) -> None:
    fields = dict(stage)
    _set_sampler(message, fields.pop("sampler", None))
    _set_guidance(message.guidance, fields.pop("guidance", None) or {})
    for name, value in fields.items():
        _set(message, name, value)


def _set_sampler(message: Message, sampler: str | None) -> None:
    _set(message, "sampler", _number(pb.Sampler, "SAMPLER", _SAMPLERS.get(sampler, sampler)))


def _set_guidance(message: pb.Guidance, guidance: Mapping[str, Any]) -> None:
    fields = dict(guidance)
    _set(message, "strategy", _number(pb.Guidance.Strategy, "STRATEGY", fields.pop("strategy", None)))
    for name, value in fields.items():
        _set(message, name, value)


def _set(message: Message, name: str, value: Any) -> None:
    """Set a field, unless the value is None."""
    if value is None:
        return
    if name not in message.DESCRIPTOR.fields_by_name:
        raise InvalidRequest(f"{name}: cannot be sent over gRPC; use the REST client", field=name)
    try:
        if isinstance(value, list | tuple):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{name}: {error}", field=name) from error


def _number(enum: Any, prefix: str, word: str | None) -> int | None:
    if word is None:
        return None
    numbers: dict[str, int] = {name.removeprefix(f"{prefix}_").lower(): number for name, number in enum.items()}
    del numbers["unspecified"]
    if word not in numbers:
        field = prefix.lower()
        raise InvalidRequest(f"{field}: must be one of {', '.join(numbers)}, got {word!r}", field=field)
    return numbers[word]


def from_rpc(error: grpc.RpcError) -> ReimagenError:
    """Return the error that a failed call reports."""
    trailing: Any = error.trailing_metadata() or ()  # Those of grpc.aio are plain tuples.
    metadata = {key: str(value) for key, value in trailing}
    pause = metadata.get(_RETRY)
    return _ERRORS.get(error.code(), ServerError)(
        error.details() or error.code().name,
        field=metadata.get(_FIELD),
        code=metadata.get(_CODE) or error.code().name.lower(),
        retry_after=int(pause) / 1000 if pause and pause.isdecimal() else None,
    )


@contextmanager
def reporting() -> Iterator[None]:
    """Raise the error of a failed call as one of the client's."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error) from error


def list_request(limit: int, after: str | None, status: JobStatus | None) -> pb.ListJobsRequest:
    """Return the message of a request for a list of jobs.

    Raises:
        InvalidRequest: There is no such status, or a value does not fit.
    """
    message = pb.ListJobsRequest(after=after or "")
    _set(message, "limit", limit)
    _set(message, "status", _number(pb.JobStatus, "JOB_STATUS", status))
    return message


def connection(target: str | None, api_key: str | None) -> tuple[str, Metadata]:
    """Return the address of the service and the metadata of each call, from arguments or else the environment.

    Raises:
        InvalidRequest: The key is invalid.
    """
    key = check_key(api_key or os.environ.get("REIMAGEN_API_KEY"))
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    return target or os.environ.get("REIMAGEN_GRPC") or DEFAULT_GRPC, metadata
