"""Valid requests, and the errors of others."""

import base64
from typing import Any

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_generator.generation.request import GenerationRequest, parse_request

IMAGE = b"any bytes at all"
ENCODED = base64.b64encode(IMAGE).decode()


def test_a_prompt_is_enough() -> None:
    request = parse_request({"prompt": "a red panda"})
    assert (request.n, request.size, request.seed, request.retrieval.k, request.output_format) == (
        1,
        None,
        None,
        None,
        "png",
    )


@pytest.mark.parametrize(("written", "size"), [("256x256", 256), ("auto", None), (64, 64), (None, None)])
def test_the_sizes_that_a_request_accepts(written: object, size: int | None) -> None:
    assert parse_request({"prompt": "x", "size": written}).size == size


@pytest.mark.parametrize("written", [IMAGE, ENCODED, f"data:image/png;base64,{ENCODED}"])
def test_references_come_as_bytes_base64_or_data_urls(written: object) -> None:
    request = parse_request({"prompt": "x", "references": [{"image": written, "caption": "y"}]})
    assert request.references[0].image == IMAGE


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": "x" * 1_001}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"n": "2"}, "n"),
        ({"size": "256"}, "size"),
        ({"size": "256x64"}, "size"),
        ({"size": "٢٥٦x٢٥٦"}, "size"),
        ({"size": []}, "size"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"retrieval": {"k": 17}}, "retrieval.k"),
        ({"retrieval": {"k": -1}}, "retrieval.k"),
        ({"retrieval": {"method": "guess"}}, "retrieval.method"),
        ({"retrieval": {"kk": 1}}, "retrieval.kk"),
        ({"retrieval": {"per_entity": 1}}, "retrieval.per_entity"),
        ({"retrieval": {"per_entity": True, "method": "dense"}}, "retrieval.per_entity"),
        ({"retrieval": {"relevance": "entity", "method": "dense"}}, "retrieval.relevance"),
        ({"retrieval": {"licenses": "MIT"}}, "retrieval.licenses"),
        ({"retrieval": {"licenses": ["MIT"] * 65}}, "retrieval.licenses"),
        ({"retrieval": {"sources": [1]}}, "retrieval.sources.0"),
        ({"retrieval": {"minimum_side": -1}}, "retrieval.minimum_side"),
        ({"retrieval": {"safe_only": "yes"}}, "retrieval.safe_only"),
        ({"retrieval": {"exclude_ids": ["x"] * 501}}, "retrieval.exclude_ids"),
        ({"guidance": {"strategy": "none"}}, "guidance.strategy"),
        ({"guidance": {"text_weight": 101}}, "guidance.text_weight"),
        ({"guidance": {"text_weight": float("nan")}}, "guidance.text_weight"),
        ({"guidance": {"neighbor_weight": -0.1}}, "guidance.neighbor_weight"),
        ({"guidance": {"interleave_ratio": 1.5}}, "guidance.interleave_ratio"),
        ({"retrieval": {"minimum_score": False}}, "retrieval.minimum_score"),
        ({"retrieval": {"minimum_score": "0.5"}}, "retrieval.minimum_score"),
        ({"retrieval": {"minimum_score": -2}}, "retrieval.minimum_score"),
        ({"retrieval": {"minimum_score": 1e300}}, "retrieval.minimum_score"),
        ({"references": [{"image": "not base64!", "caption": ""}]}, "references.0.image"),
        ({"references": [{"image": "", "caption": ""}]}, "references.0.image"),
        ({"references": [{"image": bytes(4 * 1024 * 1024 + 1), "caption": ""}]}, "references.0.image"),
        ({"references": [{"image": ENCODED}]}, "references.0.caption"),
        ({"references": [{"image": ENCODED, "caption": "x"}] * 17}, "references"),
        ({"references": [{}]}, "references.0.image"),
        ({"references": [{"id": "x"}]}, "references.0.caption"),
        ({"references": [{"pair_id": ""}]}, "references.0.pair_id"),
        ({"references": [{"pair_id": "x" * 513}]}, "references.0.pair_id"),
        ({"references": [{"pair_id": "x", "id": "y", "caption": "z"}]}, "references.0.pair_id"),
        ({"references": [{"pair_id": "x", "image": ENCODED}]}, "references.0.image"),
        ({"references": [{"pair_id": "x", "caption": "its own"}]}, "references.0.caption"),
        ({"references": [{"pair_id": "x", "weight": 10.1}]}, "references.0.weight"),
        ({"references": [{"pair_id": "x", "weight": -1}]}, "references.0.weight"),
        ({"references": [{"pair_id": "x", "weight": "1"}]}, "references.0.weight"),
        ({"previews": 4}, "previews"),
        ({"output_format": "gif"}, "output_format"),
        ({"negative_prompt": "y" * 1_001}, "negative_prompt"),
        ({"negative_prompt": 7}, "negative_prompt"),
        ({"steps": 0}, "steps"),
        ({"steps": 1_001}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": 5, "quality": "low"}, "steps"),
        ({"sampler": "euler"}, "sampler"),
        ({"stages": [{}]}, "stages.0.size"),
        ({"stages": [{"size": 64, "steps": 1_001}]}, "stages.0.steps"),
        ({"stages": [{"size": 64, "sampler": "euler"}]}, "stages.0.sampler"),
        ({"stages": [{"size": 64, "guidance": {"text_weight": 101}}]}, "stages.0.guidance.text_weight"),
        ({"stages": [{"size": 64, "scale": 2}]}, "stages.0.scale"),
        ({"stages": [{"size": 64}, {"size": 64}]}, "stages"),
        ({"stages": [{"size": 64, "steps": 5}], "quality": "hd"}, "stages"),
        ({"stages": [{"size": size} for size in range(1, 10)]}, "stages"),
        ({"strength": 1}, "strength"),
    ],
)
def test_invalid_fields_are_named(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_request({"prompt": "x", **values} if values else {})
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


@pytest.mark.parametrize("blank", [None, "", " \n"])
def test_a_blank_negative_prompt_is_none(blank: str | None) -> None:
    assert parse_request({"prompt": "x", "negative_prompt": blank}).negative_prompt is None


def test_every_field_is_described() -> None:
    schema = GenerationRequest.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    undescribed = [
        f"{model['title']}.{name}"
        for model in models
        for name, field in model.get("properties", {}).items()
        if "description" not in field
    ]
    assert undescribed == []
