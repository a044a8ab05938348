"""The gRPC API, as specified in proto/reimagen/v1/generation.proto."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import grpc

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import generation_pb2_grpc, retrieval_pb2
from reimagen_common.errors import InvalidArgument
from reimagen_generator.config.cascade import Strategy
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.generation.images import encode_preview
from reimagen_generator.generation.request import GenerationRequest, Relevance, parse_request
from reimagen_generator.generation.retriever_client import Neighbors
from reimagen_generator.generation.service import Accepted, Event, GenerationService, Image

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["Generation"].full_name
MESSAGE_BYTES: Final = 96 * 1024 * 1024

_Number = TypeVar("_Number", bound=int)
_Name = TypeVar("_Name")

_METHODS: Final = {
    retrieval_pb2.METHOD_UNSPECIFIED: "bm25",
    retrieval_pb2.METHOD_BM25: "bm25",
    retrieval_pb2.METHOD_DENSE: "dense",
    retrieval_pb2.METHOD_HYBRID: "hybrid",
}
_RELEVANCES: Final[Mapping[int, Relevance | None]] = {
    retrieval_pb2.RELEVANCE_UNSPECIFIED: None,
    retrieval_pb2.RELEVANCE_ANY: "any",
    retrieval_pb2.RELEVANCE_ENTITY: "entity",
    retrieval_pb2.RELEVANCE_PHRASE: "phrase",
}
_STRATEGIES: Final = {
    pb.Guidance.STRATEGY_UNSPECIFIED: None,
    pb.Guidance.STRATEGY_JOINT: Strategy.JOINT,
    pb.Guidance.STRATEGY_WEIGHTED: Strategy.WEIGHTED,
    pb.Guidance.STRATEGY_INTERLEAVED: Strategy.INTERLEAVED,
}
_FORMATS: Final = {
    pb.OUTPUT_FORMAT_UNSPECIFIED: "png",
    pb.OUTPUT_FORMAT_PNG: "png",
    pb.OUTPUT_FORMAT_JPEG: "jpeg",
    pb.OUTPUT_FORMAT_WEBP: "webp",
}
_QUALITIES: Final = {
    pb.QUALITY_UNSPECIFIED: "auto",
    pb.QUALITY_LOW: "low",
    pb.QUALITY_MEDIUM: "medium",
    pb.QUALITY_HIGH: "high",
}


class GenerationServicer(generation_pb2_grpc.GenerationServicer):
    """The gRPC service. `GrpcServer` converts its errors to gRPC statuses."""

    def __init__(self, generator: GenerationService, *, deadline: float) -> None:
        """Create the service.

        Args:
            generator: The service that handles the requests.
            deadline: Maximum time of a request in seconds; a client may set an earlier deadline.
        """
        self._generator = generator
        self._deadline = deadline

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateEvent]:
        """Draw n images. If the client ends the call, drawing stops at the next step."""
        handle = RequestHandle(timeout=min(context.time_remaining(), self._deadline))
        if not context.add_callback(handle.cancel):
            return
        try:
            for event in self._generator.generate(_read(request), handle):
                yield _write(event)
        except Cancelled:
            return

    def Describe(self, request: pb.DescribeCascadeRequest, context: grpc.ServicerContext) -> pb.DescribeCascadeResponse:
        """Describe the loaded cascade and its limits."""
        cascade = self._generator.engine.cascade
        return pb.DescribeCascadeResponse(
            cascade=cascade.config.name,
            stages=[
                pb.DescribeCascadeResponse.Stage(
                    size=stage.size,
                    parameters=parameters,
                    retrieval_conditioned=stage.network.retrieval,
                    steps=stage.steps,
                )
                for stage, parameters in zip(cascade.config.stages, cascade.parameters, strict=True)
            ],
            default_k=cascade.config.default_k,
            maximum_k=cascade.config.maximum_k,
        )


def _read(message: pb.GenerateRequest) -> GenerationRequest:
    retrieval: dict[str, Any] = {
        "method": _known(_METHODS, message.retrieval.method, "retrieval.method"),
        "per_entity": message.retrieval.per_entity,
        "licenses": tuple(message.retrieval.filters.licenses),
        "sources": tuple(message.retrieval.filters.sources),
        "minimum_side": message.retrieval.filters.minimum_side,
        "safe_only": message.retrieval.filters.safe_only,
        "exclude_ids": tuple(message.retrieval.filters.exclude_ids),
        "relevance": _known(_RELEVANCES, message.retrieval.relevance, "retrieval.relevance"),
        "explain": message.retrieval.explain,
    }
    if message.retrieval.HasField("minimum_score"):
        retrieval["minimum_score"] = message.retrieval.minimum_score
    if message.retrieval.HasField("k"):
        retrieval["k"] = message.retrieval.k
    guidance: dict[str, Any] = {
        "strategy": _known(_STRATEGIES, message.guidance.strategy, "guidance.strategy"),
    }
    for name in ("text_weight", "neighbor_weight", "interleave_ratio"):
        if message.guidance.HasField(name):
            guidance[name] = getattr(message.guidance, name)
    return parse_request(
        {
            "prompt": message.prompt,
            "n": message.n if message.HasField("n") else 1,
            "size": message.size or None,
            "seed": message.seed if message.HasField("seed") else None,
            "retrieval": retrieval,
            "guidance": guidance,
            "references": tuple({"image": given.image, "caption": given.caption} for given in message.references),
            "previews": message.previews,
            "output_format": _known(_FORMATS, message.output_format, "output_format"),
            "output_compression": message.output_compression if message.HasField("output_compression") else None,
            "quality": _known(_QUALITIES, message.quality, "quality"),
            "user": message.user or None,
        }
    )


def _known(names: Mapping[_Number, _Name], number: _Number, field: str) -> _Name:
    if number not in names:
        raise InvalidArgument(f"unknown {field.rpartition('.')[2].replace('_', ' ')} {number}", field=field)
    return names[number]


def _write(event: Event) -> pb.GenerateEvent:
    match event:
        case Accepted():
            return pb.GenerateEvent(
                accepted=pb.GenerateEvent.Accepted(id=event.id, seed=event.seed, queued=event.queued)
            )
        case Neighbors():
            return pb.GenerateEvent(neighbors=_write_neighbors(event))
        case StepEvent():
            return pb.GenerateEvent(
                progress=pb.GenerateEvent.Progress(
                    index=event.index,
                    stage=event.stage,
                    size=event.size,
                    step=event.step,
                    steps=event.steps,
                    preview=None if event.preview is None else encode_preview(event.preview),
                )
            )
        case Image():
            return pb.GenerateEvent(
                image=pb.GenerateEvent.Image(
                    index=event.index,
                    seed=event.seed,
                    image=event.image,
                    media_type=event.media_type,
                    width=event.size,
                    height=event.size,
                )
            )


def _write_neighbors(event: Neighbors) -> pb.GenerateEvent.Neighbors:
    return pb.GenerateEvent.Neighbors(
        neighbors=[
            retrieval_pb2.Neighbor(
                pair=retrieval_pb2.Pair(
                    id=neighbor.id,
                    caption=neighbor.caption,
                    image=neighbor.image,
                    media_type=neighbor.media_type,
                    width=neighbor.width,
                    height=neighbor.height,
                    source=neighbor.source,
                    license=neighbor.license,
                ),
                rank=neighbor.rank,
                score=neighbor.score,
                explanation=neighbor.explanation,
            )
            for neighbor in event.neighbors
        ],
        text_only=event.text_only,
        revision=event.revision,
        nothing_found=event.nothing_found,
    )
