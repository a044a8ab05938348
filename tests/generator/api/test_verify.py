"""Images of a service that signs, and what it tells about files."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reimagen.v1 import generation_pb2 as pb
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from tests.generator.api.conftest import Served, serve

URL = "/v1/verify"
GENERATIONS = "/v1/images/generations"
BODY = {"prompt": "a red panda", "seed": 7, "size": "16x16", "retrieval": {"k": 0}}


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the first stage of the tiny cascade with a signing key of its own."""
    folder = tmp_path_factory.mktemp("signing")
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)
    cascade.save(folder)
    with serve(cascade, folder, capacity=5, signing=True, state=folder / "state") as service:
        yield service


def verify(served: Served, file: bytes) -> dict[str, Any]:
    response = served.rest.post(URL, files={"image": ("image", file)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def draw(served: Served, body: dict[str, Any]) -> bytes:
    response = served.rest.post(GENERATIONS, json=body)
    assert response.status_code == 200, response.text
    return base64.b64decode(response.json()["data"][0]["b64_json"])


def pixels(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_an_image_is_signed_and_says_how_it_was_drawn(signing: Served, output_format: str) -> None:
    answer = verify(signing, draw(signing, BODY | {"output_format": output_format}))
    assert answer["signature"]["status"] == "untrusted"
    assert answer["signature"]["signer"].startswith("Re-Imagen local signer")
    assert (answer["tampered"], answer["found_by"]) == (False, "metadata")
    generation = answer["generation"]
    assert (generation["prompt"], generation["seed"], generation["model"]) == ("a red panda", 7, "tiny")
    assert generation["created"] > 1_700_000_000
    assert (generation["neighbors"], generation["request"]) == ([], BODY | {"model": "tiny"})


def test_the_request_in_the_answer_draws_the_image_again(signing: Served) -> None:
    first = draw(signing, BODY | {"quality": "low", "guidance": {"text_weight": 3}})
    again = draw(signing, verify(signing, first)["generation"]["request"])
    assert np.array_equal(pixels(first), pixels(again))
    assert not np.array_equal(pixels(first), pixels(draw(signing, BODY)))


def test_images_of_edits_jobs_and_grpc_are_signed(signing: Served) -> None:
    form = {"prompt": "a red panda", "size": "16x16", "reference_captions": "a red square", "reference_weights": "2"}
    edited = signing.rest.post("/v1/images/edits", data=form, files={"image": png()}).json()["data"][0]["b64_json"]
    answer = verify(signing, base64.b64decode(edited))
    assert answer["signature"]["status"] == "untrusted"
    assert answer["generation"]["neighbors"] == [
        {"id": None, "caption": "a red square", "source": "", "license": "", "weight": 2.0, "cut_out": False}
    ]
    refused = signing.rest.post(GENERATIONS, json=answer["generation"]["request"])
    assert refused.json()["field"] == "references.0.image"
    job = signing.rest.post("/v1/jobs", json=BODY).json()["id"]
    assert "event: job.completed" in signing.rest.get(f"/v1/jobs/{job}/events").text
    assert verify(signing, signing.rest.get(f"/v1/jobs/{job}/images/0").content)["tampered"] is False
    call = pb.GenerateRequest(prompt="a red panda", size=16, retrieval=pb.GenerateRequest.Retrieval(k=0))
    drawn = [event.image.image for event in signing.generation.Generate(call) if event.HasField("image")]
    assert verify(signing, drawn[0])["tampered"] is False


def test_a_changed_pixel_is_reported(signing: Served) -> None:
    file = bytearray(draw(signing, BODY))
    file[file.index(b"IDAT") + 20] ^= 1
    answer = verify(signing, bytes(file))
    assert (answer["signature"]["status"], answer["tampered"]) == ("invalid", True)


def test_a_file_that_says_nothing_is_answered(signing: Served) -> None:
    answer = verify(signing, png())
    assert answer == {
        "signature": {
            "status": "absent",
            "signer": None,
            "time": None,
            "reason": "the file has no C2PA manifest",
        },
        "tampered": None,
        "generation": None,
        "watermark": None,
        "soft_bindings": [],
        "found_by": None,
    }


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"files": {"image": ("a.txt", b"no image")}}, "image"),
        ({"files": [("image", ("a", b"")), ("image", ("b", b""))]}, "image"),
        ({"files": {"file": ("a", b"")}}, "file"),
        ({"data": {"image": "text"}, "files": {"other": ("a", b"")}}, "other"),
        ({"files": {"image": ("a", bytes(32 * 1024 * 1024 + 1))}}, "image"),
        ({"json": {}}, "body"),
    ],
)
def test_bad_forms_are_refused_by_field(signing: Served, sent: dict[str, Any], field: str) -> None:
    response = signing.rest.post(URL, **sent)
    assert (response.status_code, response.json()["field"]) == (400, field)
