"""REST over a socket, without a retriever."""

import base64
import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reimagen_generator.api.http.limits import BODY_BYTES
from reimagen_generator.api.http.schema import ImagesRequest
from reimagen_generator.generation import provenance
from reimagen_generator.generation.request import NEIGHBORS, PROMPT_CHARACTERS
from reimagen_generator.generation.request_parts import REFERENCE_BYTES

URL = "/v1/images/generations"
ALONE = {"retrieval": {"k": 0}}


def base64_png(side: int = 8) -> str:
    buffer = io.BytesIO()
    # One bit per pixel, for an image that only has to be too large.
    Image.new("RGB" if side < 1_000 else "1", (side, side), "red" if side < 1_000 else 1).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(file: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(file)) as picture:
        return picture.format, picture.size


def draw(served: Any, **body: Any) -> dict[str, Any]:
    response = served.rest.post(URL, json={"prompt": "a red panda", **ALONE, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_an_image_from_a_prompt_alone_is_marked_text_only(served: Any, tmp_path: Path) -> None:
    answer = draw(served, seed=7, size="64x64")
    assert (answer["text_only"], answer["neighbors"], answer["revision"]) == (True, [], "")
    assert (answer["seed"], answer["cascade"], answer["size"]) == (7, "tiny", "64x64")
    path = tmp_path / "image.png"
    path.write_bytes(base64.b64decode(answer["data"][0]["b64_json"]))
    assert shape(path.read_bytes()) == ("PNG", (64, 64))
    origin = provenance.read(path)
    assert (origin.prompt, origin.seed, origin.size, origin.neighbors) == ("a red panda", 7, 64, ())


def test_the_same_seed_gives_the_same_file(served: Any) -> None:
    assert draw(served, seed=7)["data"] == draw(served, seed=7)["data"]
    assert draw(served, seed=7)["data"] != draw(served, seed=8)["data"]


def test_image_i_is_drawn_from_seed_plus_i(served: Any) -> None:
    both = draw(served, n=2, seed=2**32 - 1, size="16x16")
    assert [image["seed"] for image in both["data"]] == [2**32 - 1, 0]


def test_a_random_seed_is_reported(served: Any) -> None:
    answer = draw(served, size="16x16", output_format="png")
    again = draw(served, size="16x16", seed=answer["seed"])
    assert again["data"] == answer["data"]


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_links_return_the_file(served: Any, output_format: str, tmp_path: Path) -> None:
    answer = draw(served, response_format="url", output_format=output_format, size="16x16")
    file = httpx.get(answer["data"][0]["url"])
    assert file.headers["content-type"] == f"image/{output_format}"
    path = tmp_path / "image"
    path.write_bytes(file.content)
    assert provenance.read(path).seed == answer["seed"]
    assert shape(file.content) == (output_format.upper(), (16, 16))


def test_an_unknown_link_is_not_found(served: Any) -> None:
    response = served.rest.get("/v1/images/files/none.png")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


def test_references_replace_retrieval(served: Any) -> None:
    references = [{"image": f"data:image/png;base64,{base64_png()}", "caption": "a red square"}]
    response = served.rest.post(URL, json={"prompt": "a square", "references": references, "seed": 1})
    answer = response.json()
    assert (answer["text_only"], answer["neighbors"]) == (False, [{"caption": "a red square"}])


def events_of(lines: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [block.split("\n") for block in lines.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_a_stream_sends_partial_images(served: Any) -> None:
    body = {"prompt": "a red panda", "n": 2, "seed": 7, "size": "64x64", "stream": True, "partial_images": 2, **ALONE}
    response = served.rest.post(URL, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    assert all(name == data["type"] for name, data in events)
    kinds = [name.removeprefix("image_generation.") for name, _ in events]
    assert kinds[0] == "neighbors"
    reported = [(kind, data["index"]) for kind, (_, data) in zip(kinds, events, strict=True) if "index" in data]
    assert reported == [(kind, index) for index in range(2) for kind in ["progress"] * 6 + ["completed"]]
    partial = [data for name, data in events if name.endswith("partial_image")]
    assert [data["partial_image_index"] for data in partial] == [0, 1]
    assert all(shape(base64.b64decode(data["b64_json"]))[0] == "PNG" for data in partial)
    whole = draw(served, n=2, seed=7, size="64x64")
    assert [data["b64_json"] for name, data in events if name.endswith("completed")] == [
        image["b64_json"] for image in whole["data"]
    ]


def test_a_stream_that_fails_before_its_start_has_an_error_status(served: Any) -> None:
    response = served.rest.post(URL, json={"prompt": "a red panda", "size": "17x17", "stream": True})
    assert (response.status_code, response.json()["field"]) == (400, "size")


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 10_000}, "prompt"),
    ({"n": 0}, "n"),
    ({"n": 11}, "n"),
    ({"size": "17x17"}, "size"),
    ({"size": "huge"}, "size"),
    ({"colour": "red"}, "colour"),
    ({"retrieval": {"k": 1_000}}, "retrieval.k"),
    ({"retrieval": {"depth": 1}}, "retrieval.depth"),
    ({"guidance": {"strategy": "hope"}}, "guidance.strategy"),
    ({"references": [{"image": "bm8gcGljdHVyZQ==", "caption": "x"}]}, "references.0.image"),
    ({"references": [{"image": "***", "caption": "x"}]}, "references.0.image"),
    ({"references": [{"image": base64_png(8_001), "caption": "x"}]}, "references.0.image"),
    ({"references": [{"image": base64_png()[:-40] + "====", "caption": "x"}]}, "references.0.image"),
    ({"model": "dall-e-3"}, "model"),
    ({"partial_images": 1}, "partial_images"),
    ({"partial_images": 4, "stream": True}, "partial_images"),
    ({"previews": 1}, "previews"),
    ({"prompt": None}, "prompt"),
    ({"colour": None}, "colour"),
    ({"quality": "best"}, "quality"),
    ({"background": "transparent"}, "background"),
    ({"style": "natural"}, "style"),
    ({"moderation": "high"}, "moderation"),
    ({"output_compression": 101}, "output_compression"),
    ({"output_compression": 80}, "output_compression"),
    ({"output_compression": 80, "output_format": "png"}, "output_compression"),
    ({"guidance": {"strategy": "joint", "neighbor_weight": 2}}, "guidance.neighbor_weight"),
    ({"guidance": {"strategy": "joint", "interleave_ratio": 0.5}}, "guidance.interleave_ratio"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES, ids=[f"{field}-{i}" for i, (_, field) in enumerate(BAD_BODIES)])
def test_bad_input_is_named(served: Any, body: dict[str, Any], field: str) -> None:
    response = served.rest.post(URL, json={"prompt": "a red panda", **body})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["field"] == field
    assert problem["detail"].startswith(f"{field}: ")
    assert problem["error"]["param"] == field
    assert served.rest.get("/readyz").status_code == 200


def test_impossible_requests_are_refused_with_advice(served: Any) -> None:
    for body, advice in (
        ({"background": "transparent"}, "must be auto or opaque, or unset: images have no transparent parts"),
        ({"style": "natural"}, "must be vivid, or unset: describe the style in the prompt"),
        (
            {"references": [{"image": base64_png(), "caption": ""}] * 17},
            "references: must have at most 16 entries, got 17",
        ),
        ({"retrieval": {"per_entity": True, "method": "dense"}}, "retrieval.per_entity: requires method bm25"),
        ({"output_compression": 5}, "must be 100 with PNG, which is lossless; set output_format to jpeg or webp"),
        ({"guidance": {"strategy": "joint", "neighbor_weight": 3}}, "set guidance.strategy to weighted or interleaved"),
    ):
        detail = served.rest.post(URL, json={"prompt": "a red panda", **body}).json()["detail"]
        assert advice in detail


def test_null_means_the_default(served: Any) -> None:
    fields: dict[str, Any] = {field.alias or name: None for name, field in ImagesRequest.model_fields.items()}
    nested = {"k": 0, "method": None, "licenses": None}
    fields |= {"prompt": "a red panda", "size": "16x16", "seed": 7, "retrieval": nested}
    assert (
        draw(served, **fields)["data"]
        == (draw(served, size="16x16", seed=7, guidance={"strategy": None, "text_weight": None})["data"])
    )


def test_the_defaults_of_openais_client_change_nothing(served: Any) -> None:
    sent = {"quality": "auto", "background": "auto", "moderation": "low", "style": "vivid", "output_compression": 100}
    assert draw(served, size="16x16", seed=7, **sent)["data"] == draw(served, size="16x16", seed=7)["data"]


@pytest.mark.parametrize(
    ("quality", "steps"), [("low", 1), ("medium", 2), ("standard", 2), ("auto", 2), ("high", 4), ("hd", 4)]
)
def test_quality_sets_the_number_of_steps(served: Any, quality: str, steps: int, tmp_path: Path) -> None:
    body = {"prompt": "a red panda", "size": "32x32", "stream": True, "partial_images": 1, "quality": quality, **ALONE}
    events = events_of(served.rest.post(URL, json=body).text)
    progress = [data for name, data in events if name.endswith("progress")]
    assert [(reported["stage"], reported["step"], reported["steps"]) for reported in progress] == [
        (stage, step, steps) for stage in range(2) for step in range(1, steps + 1)
    ]
    assert sum(name.endswith("partial_image") for name, _ in events) == 1
    path = tmp_path / "image.png"
    path.write_bytes(base64.b64decode(events[-1][1]["b64_json"]))
    assert provenance.read(path).quality == quality


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_a_smaller_output_compression_makes_a_smaller_file(served: Any, output_format: str) -> None:
    sizes = []
    for compression in (0, 40, None, 100):
        answer = draw(served, seed=7, output_format=output_format, output_compression=compression)
        file = base64.b64decode(answer["data"][0]["b64_json"])
        assert shape(file)[1] == (64, 64)
        sizes.append(len(file))
    assert sizes == sorted(set(sizes))


def test_a_user_is_logged_by_a_digest(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "reimagen_generator.generation.service"):
        draw(served, size="16x16", user="customer-4711")
        draw(served, size="16x16")
    users = [vars(record).get("user") for record in caplog.records if record.getMessage() == "accepted"]
    assert users == [hashlib.sha256(b"customer-4711").hexdigest()[:16], None]
    assert "4711" not in caplog.text


NOT_JSON_OBJECTS = {
    "nothing": b"",
    "cut off": b"{",
    "a list": b"[1]",
    "a string": b'"prompt"',
    "not UTF-8": b"\xff\xfe",
    "not a number": b'{"prompt": NaN}',
    "half a character": b'{"prompt": "\\ud800"}',
    "too deep": b"[" * 100_000,
    "too long a number": b'{"prompt": "x", "seed": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", NOT_JSON_OBJECTS.values(), ids=NOT_JSON_OBJECTS.keys())
def test_bodies_other_than_a_json_object_are_refused(served: Any, content: bytes) -> None:
    response = served.rest.post(URL, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from([*ImagesRequest.model_json_schema()["properties"], "image"])


@settings(deadline=None, max_examples=60)
@given(body=st.dictionaries(FIELDS, JSON, max_size=3))
def test_any_json_is_drawn_or_refused(served: Any, body: dict[str, Any]) -> None:
    content = json.dumps({"prompt": "x", "size": "16x16", **body, **ALONE}).encode()
    response = served.rest.post(URL, content=content, headers={"content-type": "application/json"})
    assert response.status_code in {200, 400}, response.text
    assert response.status_code == 200 or response.json()["field"]


def post(served: Any, content: bytes | Iterator[bytes]) -> httpx.Response:
    answer: httpx.Response = served.rest.post(URL, content=content, headers={"content-type": "application/json"})
    return answer


def test_a_body_too_large_is_refused_before_it_is_parsed(served: Any) -> None:
    assert post(served, b" " * BODY_BYTES).json()["field"] == "body"
    whole = post(served, b" " * (BODY_BYTES + 1))
    assert (whole.status_code, whole.json()["status"]) == (413, 413)
    assert whole.json()["detail"] == "body: must be at most 87 MiB; send fewer or smaller references"
    piece = b" " * 1024 * 1024
    assert post(served, itertools.repeat(piece, BODY_BYTES // len(piece) + 1)).status_code == 413


def test_the_largest_request_that_the_fields_allow_is_not_too_large(served: Any) -> None:
    picture = base64.b64encode(bytes(REFERENCE_BYTES)).decode()
    reference = {"image": f"data:image/png;base64,{picture}", "caption": "\U0001f98a" * PROMPT_CHARACTERS}
    body = {"prompt": "\U0001f98a" * PROMPT_CHARACTERS, "references": [reference] * NEIGHBORS, "size": "17x17"}
    answer = post(served, json.dumps(body).encode())
    # Every other field is valid: only the field that depends on the cascade is refused.
    assert (answer.status_code, answer.json()["field"]) == (400, "size")


def test_without_a_retriever_the_status_is_503_and_says_what_to_do(served: Any) -> None:
    response = served.rest.post(URL, json={"prompt": "a red panda"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "reimagen-retriever serve" in response.json()["detail"]
    assert "retrieval.k = 0" in response.json()["error"]["message"]


def test_without_a_retriever_a_stream_fails_before_its_start(served: Any) -> None:
    response = served.rest.post(URL, json={"prompt": "a red panda", "stream": True})
    assert response.status_code == 503


def test_models_are_listed(served: Any) -> None:
    models = served.rest.get("/v1/models").json()
    assert [(model["id"], model["sizes"]) for model in models["data"]] == [("tiny", ["16x16", "32x32", "64x64"])]
    assert served.rest.get("/v1/models/tiny").json() == models["data"][0]
    first, _, last = models["data"][0]["stages"]
    guidance = {"strategy": "interleaved", "text_weight": 1.0, "neighbor_weight": 1.0, "interleave_ratio": 0.5}
    assert first == {
        "size": 16,
        "steps": 2,
        "sampler": "ddim",
        "sees_neighbors": True,
        "guided": True,
        "guidance": guidance,
    }
    assert (last["sees_neighbors"], last["guidance"]["neighbor_weight"]) == (False, None)
    assert served.rest.get("/v1/models/other").status_code == 404


def test_the_documentation_shows_every_field_and_error(served: Any) -> None:
    assert served.rest.get("/docs").status_code == 200
    specification = served.rest.get("/openapi.json").json()
    operation = specification["paths"][URL]["post"]
    assert {"400", "413", "429", "503", "504"} <= operation["responses"].keys()
    schemas = specification["components"]["schemas"]
    assert schemas["ImagesRequest"]["examples"]
    undescribed = [
        f"{name}.{field}"
        for name in (
            "ImagesRequest",
            "Retrieval",
            "Guidance",
            "Reference",
            "ImagesResponse",
            "ImageData",
            "NeighborData",
        )
        for field, schema in schemas[name]["properties"].items()
        if "description" not in schema
    ]
    assert undescribed == []


def test_it_is_live_and_degraded_without_a_retriever(served: Any) -> None:
    assert served.rest.get("/livez").json() == {"status": "alive"}
    for path in ("/readyz", "/healthz"):
        answer = served.rest.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        (reason,) = answer.json()["reasons"]
        assert reason.startswith("the retriever at 127.0.0.1:1 does not answer")
