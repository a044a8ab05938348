"""The client of the gRPC API. It needs `pip install 'reimagen-client[grpc]'`."""

import os
from collections.abc import Generator, Mapping
from typing import Any, Final, Self, Unpack

import grpc
from google.protobuf.message import Message

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen.v1.generation_pb2_grpc import GenerationStub
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
    Done,
    Event,
    Generation,
    Image,
    Neighbor,
    NothingFound,
    Preview,
    Progress,
    RefusedPair,
    Retrieved,
)
from reimagen_client.options import Options, check_names, references_of, retrieval_of, size_text
from reimagen_client.settings import DEFAULT_GRPC, TIMEOUT_SECONDS, check_key

# Trailing metadata of errors.
_FIELD: Final = "reimagen-field"
_CODE: Final = "reimagen-code"
_RETRY: Final = "grpc-retry-pushback-ms"
_MESSAGE_BYTES: Final = 96 * 1024 * 1024
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


class GrpcClient:
    """A client of the gRPC API. Use it as a context manager; closing it cancels its calls. Threads may share it."""

    def __init__(
        self,
        target: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Create the client, without connecting.

        Args:
            target: host:port of the service. None: REIMAGEN_GRPC, or 127.0.0.1:50052.
            api_key: Key for the service. None: REIMAGEN_API_KEY.
            timeout: Seconds that a call may take.
            credentials: TLS credentials of the channel. None: no TLS.

        Raises:
            InvalidRequest: The key is invalid.
        """
        target = target or os.environ.get("REIMAGEN_GRPC") or DEFAULT_GRPC
        key = check_key(api_key or os.environ.get("REIMAGEN_API_KEY"))
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ]
        self._channel = (
            grpc.secure_channel(target, credentials, options=options)
            if credentials
            else grpc.insecure_channel(target, options=options)
        )
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._timeout = timeout
        self._stub = GenerationStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. The service cancels what it draws for open calls."""
        self._channel.close()

    def generate(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Draw images of a prompt, and return them when all are finished.

        Raises:
            ReimagenError: The call failed.
        """
        found, images = Retrieved(), []
        for event in self.stream(prompt, **options):
            match event:
                case Retrieved():
                    found = event
                case Done():
                    images.append(event.image)
        images.sort(key=lambda image: image.index)
        seed = images[0].seed if images else None
        return Generation(**dict(found) | {"images": tuple(images), "seed": seed})

    def stream(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Draw images of a prompt, and yield an event for the neighbors, each step, preview and image.

        Closing the generator, as `contextlib.closing` does, cancels the call.

        Args:
            prompt: Text that says what to draw.
            previews: Number of previews of the unfinished first image, 0 to 3.
            options: Options of the request.

        Raises:
            ReimagenError: The call failed.
        """
        message = request_message(prompt, options, previews)
        call = self._stub.Generate(message, timeout=self._timeout, metadata=self._metadata)
        seed, number = None, 0
        try:
            for event in call:
                match event.WhichOneof("event"):
                    case "accepted":
                        seed = event.accepted.seed
                    case "neighbors":
                        yield _retrieved(event.neighbors, seed)
                    case "progress":
                        step = event.progress
                        yield Progress(
                            index=step.index, stage=step.stage, size=step.size, step=step.step, steps=step.steps
                        )
                        if step.HasField("preview"):
                            yield Preview(number=number, content=step.preview)
                            number += 1
                    case "image":
                        drawn = event.image
                        yield Done(image=Image(index=drawn.index, seed=drawn.seed, content=drawn.image, prompt=prompt))
        except grpc.RpcError as error:
            raise _from_rpc(error) from error
        finally:
            call.cancel()


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
    sampler = options.get("sampler")
    _set(message, "sampler", _number(pb.Sampler, "SAMPLER", _SAMPLERS.get(sampler, sampler)))
    retrieval = retrieval_of(options)
    for name, enum in (("method", retrieval_pb2.Method), ("relevance", retrieval_pb2.Relevance)):
        _set(message.retrieval, name, _number(enum, name.upper(), retrieval.pop(name, None)))
    for name in _FILTERS:
        _set(message.retrieval.filters, name, retrieval.pop(name, None))
    for name, value in retrieval.items():
        _set(message.retrieval, name, value)
    guidance = dict(options.get("guidance") or {})
    _set(message.guidance, "strategy", _number(pb.Guidance.Strategy, "STRATEGY", guidance.pop("strategy", None)))
    for name, value in guidance.items():
        _set(message.guidance, name, value)
    for reference in references_of(options):
        part = message.references.add()
        _set(part, "image", reference.content())
        _set(part, "caption", reference.caption_for(prompt))
        for name in ("id", "pair_id", "weight"):
            _set(part, name, getattr(reference, name))
    return message


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


def _retrieved(message: pb.GenerateEvent.Neighbors, seed: int | None) -> Retrieved:
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


def _from_rpc(error: grpc.RpcError) -> ReimagenError:
    metadata = {item.key: str(item.value) for item in error.trailing_metadata() or ()}
    pause = metadata.get(_RETRY)
    return _ERRORS.get(error.code(), ServerError)(
        error.details() or error.code().name,
        field=metadata.get(_FIELD),
        code=metadata.get(_CODE) or error.code().name.lower(),
        retry_after=int(pause) / 1000 if pause and pause.isdecimal() else None,
    )
