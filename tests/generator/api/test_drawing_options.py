"""Negative prompts, steps, samplers and changes of single stages, over REST, forms, gRPC and jobs."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from reimagen.v1 import generation_pb2 as pb
from reimagen_generator.generation import provenance

URL = "/v1/images/generations"
SECONDS = 240
ALONE: dict[str, Any] = {"prompt": "a kea", "size": "32x32", "seed": 7, "retrieval": {"k": 0}}
OPTIONS: dict[str, Any] = {
    "negative_prompt": "a red fox",
    "steps": 3,
    "sampler": "unipc",
    "stages": [{"size": 32, "steps": 4, "sampler": "ddpm", "guidance": {"text_weight": 3.0}}],
    "guidance": {"strategy": "joint", "text_weight": 2.0},
}
MESSAGE = pb.GenerateRequest(
    prompt="a kea",
    size=32,
    seed=7,
    retrieval=pb.GenerateRequest.Retrieval(k=0),
    negative_prompt="a red fox",
    steps=3,
    sampler=pb.SAMPLER_UNIPC,
    stages=[
        pb.StageChange(size=32, steps=4, sampler=pb.SAMPLER_DDPM, guidance=pb.Guidance(text_weight=3)),
    ],
    guidance=pb.Guidance(strategy=pb.Guidance.STRATEGY_JOINT, text_weight=2),
)


def test_rest_grpc_and_jobs_draw_the_same(served: Any, tmp_path: Path) -> None:
    answer = served.rest.post(URL, json=ALONE | OPTIONS).json()
    assert answer["usage"]["steps"] == 3 + 4
    events = list(served.generation.Generate(MESSAGE, timeout=SECONDS))
    image = events[-1].image.image
    assert base64.b64decode(answer["data"][0]["b64_json"]) == image
    steps = [(event.progress.size, event.progress.steps) for event in events if event.HasField("progress")]
    assert steps == [(16, 3)] * 3 + [(32, 4)] * 4

    job = served.rest.post("/v1/jobs", json=ALONE | OPTIONS).json()
    list(served.generation.WatchJob(pb.WatchJobRequest(id=job["id"]), timeout=SECONDS))
    done = served.rest.get(f"/v1/jobs/{job['id']}").json()
    assert served.rest.get(done["data"][0]["url"]).content == image
    for name in ("negative_prompt", "steps", "sampler"):
        assert done["request"][name] == OPTIONS[name]
    stored = served.generation.GetJob(pb.GetJobRequest(id=job["id"])).request
    assert (stored.negative_prompt, stored.steps, stored.sampler) == ("a red fox", 3, pb.SAMPLER_UNIPC)
    assert list(stored.stages) == list(MESSAGE.stages)

    file = tmp_path / "image.png"
    file.write_bytes(image)
    settings = provenance.read(file).settings
    assert {name: settings[name] for name in OPTIONS if name in settings} == {
        name: OPTIONS[name] for name in ("negative_prompt", "steps", "sampler", "stages")
    }


def test_each_of_them_changes_the_image(served: Any) -> None:
    guided = ALONE | {"size": "16x16", "guidance": {"text_weight": 4.0}, "steps": 4}
    changes: list[dict[str, Any]] = [
        {},
        {"negative_prompt": "a red fox"},
        {"steps": 5},
        {"sampler": "ddpm"},
        {"stages": [{"size": 16, "guidance": {"text_weight": 2.0}}]},
    ]
    drawn = [served.rest.post(URL, json=guided | change).json()["data"][0]["b64_json"] for change in changes]
    assert len(set(drawn)) == len(changes)


def test_a_form_has_them_too(served: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    png = buffer.getvalue()
    form = {"prompt": "a kea", "size": "32x32", "seed": "7", "reference_captions": "red"}
    form |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in OPTIONS.items()}
    edited = served.rest.post("/v1/images/edits", data=form, files={"image": png})
    reference = {"image": base64.b64encode(png).decode(), "caption": "red"}
    body = {"prompt": "a kea", "size": "32x32", "seed": 7} | OPTIONS | {"references": [reference]}
    assert edited.json()["data"] == served.rest.post(URL, json=body).json()["data"]
    refused = served.rest.post("/v1/images/edits", data=form | {"quality": "high"}, files={"image": png})
    assert (refused.status_code, refused.json()["field"]) == (400, "steps")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 5, "quality": pb.QUALITY_HIGH}, "steps"),
        ({"sampler": 99}, "sampler"),
        ({"negative_prompt": "x" * 1_001}, "negative_prompt"),
        ({"stages": [pb.StageChange(size=17)]}, "stages.0.size"),
        ({"stages": [pb.StageChange(size=16, sampler=pb.Sampler.ValueType(99))]}, "stages.0.sampler"),
        (
            {"stages": [pb.StageChange(size=64, guidance=pb.Guidance(neighbor_weight=2))], "size": 64},
            "stages.0.guidance.neighbor_weight",
        ),
    ],
)
def test_bad_input_is_named(served: Any, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(served.generation.Generate(pb.GenerateRequest(prompt="x", **fields), timeout=SECONDS))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith(f"{field}: ")
