"""OpenAI's own client against the service."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image

from tests.waiting import wait_until

PROMPT = "a red panda"
SMALL = "16x16"
ALONE = {"retrieval": {"k": 0}}


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def size_of(b64_json: str | None) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(b64_json or ""))) as image:
        return image.size


def client_of(service: Any, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.rest.base_url}/v1", api_key="any", max_retries=0, timeout=240, **options)


@pytest.fixture(scope="module")
def client(served: Any) -> Iterator[openai.OpenAI]:
    with client_of(served) as client:
        yield client


def test_it_generates(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, n=2, size="64x64", extra_body=ALONE)
    assert answer.data is not None
    assert answer.usage is not None
    assert answer.usage.output_tokens_details is not None
    assert [size_of(image.b64_json) for image in answer.data] == [(64, 64)] * 2
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens_details.image_tokens == 2 * 16
    assert (answer.quality, answer.background, answer.output_format, answer.size) == (
        "medium",
        "opaque",
        "png",
        "64x64",
    )


def test_it_edits_with_one_image(client: openai.OpenAI) -> None:
    answer = client.images.edit(image=("fox.png", png("red")), prompt=PROMPT, extra_body={"seed": 7})
    assert answer.data is not None
    assert size_of(answer.data[0].b64_json) == (64, 64)


def test_it_edits_with_three_images(client: openai.OpenAI) -> None:
    images = [(f"{color}.png", png(color)) for color in ("red", "green", "blue")]
    extra = {
        "seed": 7,
        "reference_captions": ["red", "green", "blue"],
        "guidance": {"strategy": "interleaved", "text_weight": 2},
    }
    raw = client.images.with_raw_response.edit(
        image=images, prompt=PROMPT, input_fidelity="low", quality="low", n=1, extra_body=extra
    )
    neighbors = raw.http_response.json()["neighbors"]
    assert [neighbor["caption"] for neighbor in neighbors] == ["red", "green", "blue"]
    answer = raw.parse()
    assert answer.data is not None
    assert answer.usage is not None
    assert (answer.quality, answer.usage.input_tokens_details.image_tokens) == ("low", 3)


def test_it_streams_a_generation(client: openai.OpenAI) -> None:
    events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=2, extra_body=ALONE))
    partial = [event for event in events if event.type == "image_generation.partial_image"]
    assert [event.partial_image_index for event in partial] == [0, 1]
    (completed,) = [event for event in events if event.type == "image_generation.completed"]
    assert size_of(completed.b64_json) == (64, 64)
    assert completed.usage.output_tokens == 16


def test_it_streams_an_edit(client: openai.OpenAI) -> None:
    image = ("fox.png", png("red"))
    events = list(client.images.edit(image=[image], prompt=PROMPT, stream=True, partial_images=1))
    (partial,) = [event for event in events if event.type == "image_edit.partial_image"]
    (completed,) = [event for event in events if event.type == "image_edit.completed"]
    assert size_of(completed.b64_json) == (64, 64)
    assert (partial.background, completed.quality, completed.output_format) == ("opaque", "medium", "png")


def test_a_bad_request_is_its_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=PROMPT, size="1792x1024")
    assert (refused.value.param, refused.value.type) == ("size", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=("fox.png", png("red")), mask=("mask.png", png("red")), prompt=PROMPT)
    assert refused.value.param == "mask"
    assert "describe the change in the prompt" in refused.value.message


def test_a_service_without_retriever_is_its_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        client.images.generate(prompt=PROMPT)
    assert refused.value.status_code == 503


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_overload_is_its_error(endless: Any) -> None:
    cancelled = endless.engine.counters.cancelled
    with client_of(endless) as client:
        streams = [client.images.generate(prompt=PROMPT, stream=True, size=SMALL, extra_body=ALONE) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as refused:
            client.images.edit(image=("fox.png", png("red")), prompt=PROMPT)
        assert int(refused.value.response.headers["retry-after"]) >= 1
        for stream in streams:
            stream.close()
    wait_until(lambda: endless.engine.counters.cancelled == cancelled + 2)


def test_a_time_out_is_its_error_and_stops_the_work(endless: Any) -> None:
    cancelled = endless.engine.counters.cancelled
    with client_of(endless) as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).images.generate(prompt=PROMPT, size=SMALL, extra_body=ALONE)
    wait_until(lambda: endless.engine.counters.cancelled == cancelled + 1)
