"""Conversion between the gRPC messages of generation.proto and requests, events and neighbors."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import InvalidArgument, from_validation_error
from reimagen_generator.config.cascade import SamplerKind, Strategy
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.generation.images import encode_preview
from reimagen_generator.generation.request import GenerationRequest, Relevance, parse_request
from reimagen_generator.generation.request_parts import Guidance, Reference
from reimagen_generator.generation.retriever_client import Neighbors
from reimagen_generator.generation.service import Accepted, Event, Image
from reimagen_generator.generation.usage import Usage

_Number = TypeVar("_Number", bound=int)
_Name = TypeVar("_Name")

METHODS: Final = {
    retrieval_pb2.METHOD_UNSPECIFIED: "bm25",
    retrieval_pb2.METHOD_BM25: "bm25",
    retrieval_pb2.METHOD_DENSE: "dense",
    retrieval_pb2.METHOD_HYBRID: "hybrid",
}
RELEVANCES: Final[Mapping[retrieval_pb2.Relevance.ValueType, Relevance | None]] = {
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
_SAMPLERS: Final = {
    pb.SAMPLER_UNSPECIFIED: None,
    pb.SAMPLER_DDPM: SamplerKind.DDPM,
    pb.SAMPLER_DDIM: SamplerKind.DDIM,
    pb.SAMPLER_DPM_SOLVER: SamplerKind.DPM_SOLVER,
    pb.SAMPLER_UNIPC: SamplerKind.UNIPC,
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


def read_request(message: pb.GenerateRequest) -> GenerationRequest:
    """Return the request that a message contains.

    Raises:
        InvalidArgument: A field is invalid. The error names the first one.
    """
    retrieval: dict[str, Any] = {
        "method": _known(METHODS, message.retrieval.method, "retrieval.method"),
        "per_entity": message.retrieval.per_entity,
        "licenses": tuple(message.retrieval.filters.licenses),
        "sources": tuple(message.retrieval.filters.sources),
        "minimum_side": message.retrieval.filters.minimum_side,
        "safe_only": message.retrieval.filters.safe_only if message.retrieval.filters.HasField("safe_only") else None,
        "exclude_ids": tuple(message.retrieval.filters.exclude_ids),
        "relevance": _known(RELEVANCES, message.retrieval.relevance, "retrieval.relevance"),
        "explain": message.retrieval.explain,
    }
    if message.retrieval.HasField("minimum_score"):
        retrieval["minimum_score"] = message.retrieval.minimum_score
    if message.retrieval.HasField("k"):
        retrieval["k"] = message.retrieval.k
    return parse_request(
        {
            "prompt": message.prompt,
            "negative_prompt": message.negative_prompt,
            "n": message.n if message.HasField("n") else 1,
            "size": message.size or None,
            "seed": message.seed if message.HasField("seed") else None,
            "retrieval": retrieval,
            "guidance": _read_guidance(message.guidance, "guidance"),
            "references": tuple(_read_reference(given) for given in message.references),
            "previews": message.previews,
            "output_format": _known(_FORMATS, message.output_format, "output_format"),
            "output_compression": message.output_compression if message.HasField("output_compression") else None,
            "quality": _known(_QUALITIES, message.quality, "quality"),
            "steps": message.steps if message.HasField("steps") else None,
            "sampler": _known(_SAMPLERS, message.sampler, "sampler"),
            "stages": tuple(_read_stage(stage, f"stages.{index}") for index, stage in enumerate(message.stages)),
            "user": message.user or None,
        }
    )


def _read_stage(message: pb.StageChange, field: str) -> dict[str, Any]:
    return {
        "size": message.size,
        "steps": message.steps if message.HasField("steps") else None,
        "sampler": _known(_SAMPLERS, message.sampler, f"{field}.sampler"),
        "guidance": _read_guidance(message.guidance, f"{field}.guidance"),
    }


def _read_guidance(message: pb.Guidance, field: str) -> dict[str, Any]:
    return {
        "strategy": _known(_STRATEGIES, message.strategy, f"{field}.strategy"),
        "text_weight": message.text_weight if message.HasField("text_weight") else None,
        "neighbor_weight": message.neighbor_weight if message.HasField("neighbor_weight") else None,
        "interleave_ratio": message.interleave_ratio if message.HasField("interleave_ratio") else None,
    }


def read_reference(message: pb.Reference) -> Reference:
    """Return the reference that a message contains.

    Raises:
        InvalidArgument: A field is invalid. The error names the first one.
    """
    try:
        return Reference.model_validate(_read_reference(message))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise from_validation_error(first, first["loc"]) from error


def _read_reference(message: pb.Reference) -> dict[str, Any]:
    # An empty caption of an image is valid, but a pair has a caption of its own.
    return {
        "image": message.image,
        "pair_id": message.pair_id or None,
        "caption": (message.caption or None) if message.pair_id else message.caption,
        "weight": message.weight if message.HasField("weight") else None,
        "cut_out": message.cut_out,
    }


def _known(names: Mapping[_Number, _Name], number: _Number, field: str) -> _Name:
    if number not in names:
        raise InvalidArgument(f"unknown {field.rpartition('.')[2].replace('_', ' ')} {number}", field=field)
    return names[number]


def write_event(event: Event) -> pb.GenerateEvent:
    """Return an event as a message."""
    match event:
        case Accepted():
            return pb.GenerateEvent(
                accepted=pb.GenerateEvent.Accepted(id=event.id, seed=event.seed, queued=event.queued)
            )
        case Neighbors():
            return pb.GenerateEvent(neighbors=write_neighbors(event))
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


def write_neighbors(event: Neighbors) -> pb.GenerateEvent.Neighbors:
    """Return neighbors as a message, with their images."""
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
                    unsafe=neighbor.unsafe,
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
        refused=[pb.GenerateEvent.RefusedPair(id=pair.id, reason=pair.reason) for pair in event.refused],
        cut_outs=[
            pb.GenerateEvent.CutOut(neighbor=index, warning=neighbor.warning)
            for index, neighbor in enumerate(event.neighbors)
            if neighbor.cut_out or neighbor.warning
        ],
    )


def write_request(request: GenerationRequest) -> pb.GenerateRequest:
    """Return a request as a message, without the images of its references."""
    retrieval = request.retrieval
    return pb.GenerateRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or "",
        n=request.n,
        size=request.size or 0,
        seed=request.seed,
        retrieval=pb.GenerateRequest.Retrieval(
            k=retrieval.k,
            method=number_of(METHODS, retrieval.method),
            per_entity=retrieval.per_entity,
            filters=retrieval_pb2.Filters(
                licenses=retrieval.licenses,
                sources=retrieval.sources,
                minimum_side=retrieval.minimum_side,
                safe_only=retrieval.safe_only,
                exclude_ids=retrieval.exclude_ids,
            ),
            minimum_score=retrieval.minimum_score,
            relevance=number_of(RELEVANCES, retrieval.relevance),
            explain=retrieval.explain,
        ),
        guidance=_write_guidance(request.guidance),
        references=[
            pb.Reference(
                caption=reference.caption or "",
                pair_id=reference.pair_id or "",
                weight=reference.weight,
                cut_out=reference.cut_out,
            )
            for reference in request.references
        ],
        previews=request.previews,
        output_format=number_of(_FORMATS, request.output_format),
        quality=number_of(_QUALITIES, {"standard": "medium", "hd": "high"}.get(request.quality, request.quality)),
        output_compression=request.output_compression,
        steps=request.steps,
        sampler=number_of(_SAMPLERS, request.sampler),
        stages=[
            pb.StageChange(
                size=stage.size,
                steps=stage.steps,
                sampler=number_of(_SAMPLERS, stage.sampler),
                guidance=_write_guidance(stage.guidance),
            )
            for stage in request.stages
        ],
        user=request.user or "",
    )


def _write_guidance(guidance: Guidance) -> pb.Guidance:
    return pb.Guidance(
        strategy=number_of(_STRATEGIES, guidance.strategy),
        text_weight=guidance.text_weight,
        neighbor_weight=guidance.neighbor_weight,
        interleave_ratio=guidance.interleave_ratio,
    )


def write_usage(usage: Usage) -> pb.Usage:
    """Return a usage as a message."""
    return pb.Usage(**asdict(usage))


def read_usage(message: pb.Usage) -> Usage:
    """Return the usage that a message contains."""
    return Usage(**{field.name: getattr(message, field.name) for field in fields(Usage)})


def number_of(names: Mapping[_Number, _Name], name: _Name) -> _Number:
    """Return the last number of a name, because the first may be that of an unset field."""
    return [number for number, other in names.items() if other == name][-1]
