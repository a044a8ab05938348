"""Conversion between the messages of the gRPC API and the options, results and errors of the clients."""

from collections.abc import Mapping
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
from reimagen_client.models import (
    Neighbor,
    NothingFound,
    RefusedPair,
    Retrieved,
)
from reimagen_client.options import check_names, references_of, retrieval_of, size_text

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
        part = message.references.add()
        _set(part, "image", reference.content())
        _set(part, "caption", reference.caption_for(prompt))
        for name in ("id", "pair_id", "weight"):
            _set(part, name, getattr(reference, name))
    return message


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


def retrieved(message: pb.GenerateEvent.Neighbors, seed: int | None) -> Retrieved:
    """Return the neighbors that a message contains."""
    nothing = message.nothing_found
    return Retrieved(
        neighbors=tuple(_neighbor(neighbor) for neighbor in message.neighbors),
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


def _neighbor(neighbor: retrieval_pb2.Neighbor) -> Neighbor:
    pair = neighbor.pair
    if not pair.id:
        return Neighbor(caption=pair.caption)
    return Neighbor(
        id=pair.id,
        caption=pair.caption,
        source=pair.source,
        license=pair.license,
        unsafe=pair.unsafe if pair.HasField("unsafe") else None,
        rank=neighbor.rank,
        score=neighbor.score,
        image=pair.image or None,
    )


def from_rpc(error: grpc.RpcError) -> ReimagenError:
    """Return the error that a failed call reports."""
    metadata = {item.key: str(item.value) for item in error.trailing_metadata() or ()}
    pause = metadata.get(_RETRY)
    return _ERRORS.get(error.code(), ServerError)(
        error.details() or error.code().name,
        field=metadata.get(_FIELD),
        code=metadata.get(_CODE) or error.code().name.lower(),
        retry_after=int(pause) / 1000 if pause and pause.isdecimal() else None,
    )
