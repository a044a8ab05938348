"""Images that are sent in a form, over REST."""

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from reimagen_generator.generation.request_parts import REFERENCE_BYTES

URL = "/v1/images/edits"
GENERATIONS = "/v1/images/generations"


def png(color: str = "red", side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), color).save(buffer, "PNG")
    return buffer.getvalue()


def edit(served: Any, files: list[tuple[str, Any]] | None = None, **fields: Any) -> httpx.Response:
    files = [("image", ("a.png", png()))] if files is None else files
    answer: httpx.Response = served.rest.post(URL, files=files, data={"prompt": "a square", **fields})
    return answer


def test_an_edit_is_a_generation_with_references(served: Any) -> None:
    files = [("image[]", ("a.png", png("red"))), ("image[]", ("b.png", png("blue")))]
    captions = ["a red square", "a blue square"]
    answer = edit(served, files, seed="7", size="16x16", reference_captions=captions).json()
    assert [neighbor["caption"] for neighbor in answer["neighbors"]] == captions
    references = [
        {"image": base64.b64encode(png(color)).decode(), "caption": caption}
        for color, caption in zip(("red", "blue"), captions, strict=True)
    ]
    body = {"prompt": "a square", "seed": 7, "size": "16x16", "references": references}
    assert answer["data"] == served.rest.post(GENERATIONS, json=body).json()["data"]


@pytest.mark.parametrize(
    ("given", "captions"),
    [
        ({}, ["a square"] * 2),
        ({"reference_captions": "one for all"}, ["one for all"] * 2),
        ({"reference_captions": json.dumps(["one", "two"])}, ["one", "two"]),
        ({"reference_captions[]": ["one", "two"]}, ["one", "two"]),
    ],
)
def test_captions_are_given_once_or_for_each_image(served: Any, given: dict[str, Any], captions: list[str]) -> None:
    files = [("image", ("a.png", png())), ("image", ("b.png", png()))]
    answer = edit(served, files, size="16x16", **given).json()
    assert [neighbor["caption"] for neighbor in answer["neighbors"]] == captions


def test_weights_are_given_once_or_for_each_image(served: Any) -> None:
    files = [("image", ("a.png", png())), ("image", ("b.png", png("blue")))]

    def drawn(**given: Any) -> Any:
        return edit(served, files, size="16x16", seed="7", **given).json()

    ignored = drawn(reference_weights="0")
    assert (ignored["text_only"], len(ignored["neighbors"])) == (True, 2)
    first = drawn(reference_weights=json.dumps([1, 0]))
    assert first["data"] == drawn(**{"reference_weights[]": ["1", "0"]})["data"]
    assert first["usage"]["input_tokens_details"]["image_tokens"] == 1


def test_what_a_request_used_is_told(served: Any) -> None:
    answer = edit(served, size="32x32", n="2", seed="7", reference_captions="a red square").json()
    usage = answer["usage"]
    # Words of the prompt and the caption, one square of the first stage's 16 pixels, and two images of 2 x 2 squares.
    assert usage["input_tokens_details"] == {"text_tokens": 2 + 3, "image_tokens": 1}
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (6, 8, 14)
    # Two stages of two steps for each image.
    assert usage["steps"] == 8
    assert usage["evaluations"] >= usage["steps"]
    assert (answer["quality"], answer["background"]) == ("medium", "opaque")


BAD_FORMS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"),
    ({"n": "0"}, "n"),
    ({"n": ["1", "1"]}, "n"),
    ({"size": "17x17"}, "size"),
    ({"colour": "red"}, "colour"),
    ({"retrieval": "{"}, "retrieval"),
    ({"retrieval[depth]": "1"}, "retrieval.depth"),
    ({"reference_captions": ["one", "two"]}, "reference_captions"),
    ({"reference_captions": "x" * 1_001}, "reference_captions.0"),
    ({"reference_weights": ["1", "2"]}, "reference_weights"),
    ({"reference_weights": "heavy"}, "reference_weights.0"),
    ({"reference_weights": "11"}, "reference_weights.0"),
    ({"reference_cut_outs": ["true", "false"]}, "reference_cut_outs"),
    ({"reference_cut_outs": "yes"}, "reference_cut_outs.0"),
    ({"files": [("image", ("a.png", b"no image"))]}, "image.0"),
    ({"files": [("image", ("a.png", b""))]}, "image.0"),
    ({"files": [("image", ("a.png", bytes(REFERENCE_BYTES + 1)))]}, "image.0"),
    ({"files": [("image", ("a.png", png()))] * 17}, "image"),
    ({"files": [("picture", ("a.png", png()))]}, "picture"),
    ({"files": [("image", ("a.png", png())), ("mask", ("m.png", png()))]}, "mask"),
    ({"files": [("image", (None, "text"))]}, "image.0"),
    ({"files": [("image", ("a.png", png()))] * 100}, "body"),
    ({"input_fidelity": "high"}, "input_fidelity"),
    ({"partial_images": "1"}, "partial_images"),
    ({"model": "dall-e-2"}, "model"),
]


@pytest.mark.parametrize(("form", "field"), BAD_FORMS, ids=[f"{field}-{i}" for i, (_, field) in enumerate(BAD_FORMS)])
def test_bad_input_is_named(served: Any, form: dict[str, Any], field: str) -> None:
    response = edit(served, **form)
    assert response.status_code == 400
    assert (response.json()["field"], response.json()["error"]["param"]) == (field, field)
    assert response.json()["detail"].startswith(f"{field}: ")


def test_what_is_no_form_is_refused(served: Any) -> None:
    for content, kind in (
        (b"{}", "application/json"),
        (b"prompt=x", "application/x-www-form-urlencoded"),
        (b"prompt", "multipart/form-data"),
        (b"prompt", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ncut', "multipart/form-data; boundary=x"),
    ):
        response = served.rest.post(URL, content=content, headers={"content-type": kind})
        assert response.status_code == 400, response.text
        assert response.json()["field"] in {"body", "image"}


def test_defaults_that_clients_send_change_nothing(served: Any) -> None:
    sent: dict[str, Any] = {
        "input_fidelity": "low",
        "background": "auto",
        "quality": "auto",
        "user": "",
        "seed": "7",
        "n": "1",
    }
    assert edit(served, size="16x16", **sent).json()["data"] == edit(served, size="16x16", seed="7").json()["data"]
