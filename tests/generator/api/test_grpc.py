"""gRPC over a socket, without a retriever."""

import io
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_generator.generation import provenance

SECONDS = 240
ALONE = pb.GenerateRequest.Retrieval(k=0)


def png(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    # One bit per pixel, for an image that only has to be too large.
    Image.new("RGB" if side < 1_000 else "1", (side, side), "red" if side < 1_000 else 1).save(buffer, "PNG")
    return buffer.getvalue()


def draw(served: Any, **fields: Any) -> list[pb.GenerateEvent]:
    request = pb.GenerateRequest(**{"prompt": "a red panda", "retrieval": ALONE, **fields})
    return list(served.generation.Generate(request, timeout=SECONDS))


def test_events_come_in_order(served: Any, tmp_path: Path) -> None:
    events = draw(served, n=2, seed=7, size=64, previews=1, output_format=pb.OUTPUT_FORMAT_WEBP)
    assert [event.WhichOneof("event") for event in events] == (
        ["accepted", "neighbors"] + (["progress"] * 6 + ["image"]) * 2
    )
    assert (events[0].accepted.seed, events[0].accepted.queued) == (7, 0)
    assert events[0].accepted.id
    assert events[1].neighbors.text_only
    progress = [event.progress for event in events if event.HasField("progress")]
    steps = [(0, 16, 1), (0, 16, 2), (1, 32, 1), (1, 32, 2), (2, 64, 1), (2, 64, 2)]
    assert [(reported.index, reported.stage, reported.size, reported.step) for reported in progress] == [
        (index, *step) for index in range(2) for step in steps
    ]
    assert [reported.index for reported in progress if reported.HasField("preview")] == [0]
    images = [event.image for event in events if event.HasField("image")]
    assert [(picture.index, picture.seed, picture.width, picture.height) for picture in images] == [
        (0, 7, 64, 64),
        (1, 8, 64, 64),
    ]
    for picture in images:
        assert picture.media_type == "image/webp"
        path = tmp_path / str(picture.index)
        path.write_bytes(picture.image)
        assert provenance.read(path).seed == picture.seed


def test_the_same_seed_gives_the_same_file(served: Any) -> None:
    assert draw(served, seed=7)[-1] == draw(served, seed=7)[-1]


def test_references_replace_retrieval(served: Any) -> None:
    reference = pb.Reference(image=png(), caption="a red square")
    request = pb.GenerateRequest(prompt="a square", references=[reference])
    events = list(served.generation.Generate(request, timeout=SECONDS))
    assert not events[1].neighbors.text_only
    assert [neighbor.pair.caption for neighbor in events[1].neighbors.neighbors] == ["a red square"]
    assert events[1].neighbors.neighbors[0].rank == 0


BAD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 10_000}, "prompt"),
    ({"n": 0}, "n"),
    ({"n": 11}, "n"),
    ({"size": 17}, "size"),
    ({"retrieval": pb.GenerateRequest.Retrieval(k=1_000)}, "retrieval.k"),
    ({"retrieval": pb.GenerateRequest.Retrieval(k=0, method=retrieval_pb2.Method.ValueType(99))}, "retrieval.method"),
    ({"guidance": pb.Guidance(strategy=pb.Guidance.Strategy.ValueType(99))}, "guidance.strategy"),
    ({"guidance": pb.Guidance(text_weight=float("nan"))}, "guidance.text_weight"),
    ({"guidance": pb.Guidance(interleave_ratio=2)}, "guidance.interleave_ratio"),
    ({"references": [pb.Reference(image=b"no image")]}, "references.0.image"),
    ({"references": [pb.Reference(image=png(8_001))]}, "references.0.image"),
    ({"references": [pb.Reference(image=bytes(5 * 1024 * 1024))]}, "references.0.image"),
    ({"references": [pb.Reference(image=png())] * 17}, "references"),
    ({"previews": 4}, "previews"),
    ({"output_format": 99}, "output_format"),
    ({"quality": 99}, "quality"),
    ({"output_compression": 40}, "output_compression"),
    (
        {"guidance": pb.Guidance(strategy=pb.Guidance.STRATEGY_JOINT, neighbor_weight=2)},
        "guidance.neighbor_weight",
    ),
]


@pytest.mark.parametrize(
    ("fields", "field"), BAD_REQUESTS, ids=[f"{field}-{i}" for i, (_, field) in enumerate(BAD_REQUESTS)]
)
def test_bad_input_is_named(served: Any, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        draw(served, **fields)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith(f"{field}: ")
    assert draw(served, size=16)[-1].HasField("image")


def test_unknown_values_are_reported_in_three_words(served: Any) -> None:
    for fields, reported in (
        ({"quality": 99}, "quality: unknown quality 99"),
        ({"output_format": 7}, "output_format: unknown output format 7"),
        (
            {"retrieval": pb.GenerateRequest.Retrieval(method=retrieval_pb2.Method.ValueType(99))},
            "retrieval.method: unknown method 99",
        ),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            draw(served, **fields)
        assert refused.value.details() == reported


def test_without_a_retriever_the_error_is_unavailable_and_says_what_to_do(served: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(served.generation.Generate(pb.GenerateRequest(prompt="a red panda"), timeout=SECONDS))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "reimagen-retriever serve" in str(refused.value.details())


def test_quality_and_compression_have_an_effect(served: Any) -> None:
    options = {"size": 16, "seed": 7, "output_format": pb.OUTPUT_FORMAT_JPEG, "user": "customer-4711"}
    low = draw(served, **options, quality=pb.QUALITY_LOW, output_compression=10)
    assert [event.progress.steps for event in low if event.HasField("progress")] == [1]
    assert len(low[-1].image.image) < len(draw(served, **options, quality=pb.QUALITY_LOW)[-1].image.image)


def test_the_cascade_is_described(served: Any) -> None:
    described = served.generation.Describe(pb.DescribeCascadeRequest(), timeout=SECONDS)
    assert described.cascade == "tiny"
    assert [(stage.size, stage.steps, stage.retrieval_conditioned) for stage in described.stages] == [
        (16, 2, True),
        (32, 2, True),
        (64, 2, False),
    ]
    assert all(stage.parameters > 0 for stage in described.stages)
    assert (described.default_k, described.maximum_k) == (2, 16)


def test_health_and_reflection_answer(served: Any) -> None:
    check = health_pb2_grpc.HealthStub(served.channel).Check  # type: ignore[attr-defined]
    answer = check(health_pb2.HealthCheckRequest(service="reimagen.v1.Generation"), timeout=SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert "reimagen.v1.Generation" in ProtoReflectionDescriptorDatabase(served.channel).get_services()
