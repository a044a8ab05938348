"""The client of an image server, against a real HTTP server that answers wrongly in every way."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from reimagen_common.errors import DeadlineExceeded, InvalidArgument, Overloaded, ReimagenError, Unavailable
from reimagen_generator.backends.openai_images import OpenAIImages, Reference, Upstream
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from tests.image_server import SIZE, Handler, Server, answer, images, picture, serving, wait_for_end
from tests.waiting import wait_until

KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[OpenAIImages]:
    client = OpenAIImages(
        Upstream(f"http://127.0.0.1:{server.server_port}/v1", "m", SecretStr(KEY), concurrency=1, backoff=0)
    )
    yield client
    client.close()


def draw(client: OpenAIImages, *references: Reference, n: int = 1, handle: RequestHandle | None = None) -> Any:
    return client.draw(handle or RequestHandle(timeout=20), "a bench", references, n=n, size=SIZE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "127.0.0.1:8091"),
        ("url", "ftp://127.0.0.1/v1"),
        ("url", "http://"),
        ("url", "http://host:port/v1"),
        ("concurrency", 0),
        ("reference_template", "Image {number}"),
        ("reference_template", "{number} {caption} {other}"),
        ("reference_template", "{number} {caption} {"),
        ("reference_template", "{number} {caption:d}"),
    ],
)
def test_an_invalid_value_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: must"):
        Upstream(**{"url": "http://127.0.0.1:1/v1", field: value})


def test_references_go_to_edits_with_a_prompt_that_names_them(server: Server, client: OpenAIImages) -> None:
    server.answers = [answer(200, images(picture(), picture()))]
    drawn = draw(
        client,
        Reference(picture(8), "image/png", "a red panda"),
        Reference(picture(9), "image/webp", "{braces}"),
        n=2,
    )
    assert drawn.shape == (2, SIZE, SIZE, 3)
    assert tuple(drawn[1, 0, 0]) == (200, 30, 10)
    path, headers, body = server.requests[0]
    assert path == "/v1/images/edits"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body.count(b'name="image[]"') == 2
    assert picture(8) in body
    assert picture(9) in body
    assert b"a bench\nImage 1 shows a red panda.\nImage 2 shows {braces}." in body


def test_without_references_the_image_is_generated(server: Server, client: OpenAIImages) -> None:
    server.answers = [answer(200, images(picture()))]
    draw(client)
    path, _, body = server.requests[0]
    assert path == "/v1/images/generations"
    assert json.loads(body) == {
        "prompt": "a bench",
        "n": 1,
        "size": "32x32",
        "model": "m",
        "response_format": "b64_json",
    }


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (answer(200, b"{"), ReimagenError, "not the JSON"),
        (answer(200, images()), ReimagenError, "0 images instead of 1"),
        (answer(200, images(picture(), picture())), ReimagenError, "2 images instead of 1"),
        (answer(200, images(b"text")), ReimagenError, "not an image"),
        (answer(200, images(picture(16))), ReimagenError, "16x16 pixels instead of 32x32"),
        (answer(200, b'{"data": [{"url": "http://x/"}]}'), ReimagenError, "without b64_json"),
        (answer(200, b" " * 3_000_000), ReimagenError, "larger than"),
        (answer(200, b"x", content_encoding="gzip"), ReimagenError, "compressed"),
        (answer(200, b"half", declared=100), Unavailable, "broke off"),
        (answer(302, location="http://x/"), ReimagenError, "redirects"),
        (answer(400, f"the key {KEY} may not".encode()), InvalidArgument, r"the key \*\*\* may not"),
        (answer(401, KEY.encode()), ReimagenError, "does not accept"),
        (answer(404), ReimagenError, "no such route or model"),
    ],
)
def test_a_fault_is_a_clear_error_without_the_key_or_a_retry(
    server: Server,
    client: OpenAIImages,
    reply: Callable[[Handler], None],
    error: type[ReimagenError],
    message: str,
) -> None:
    server.answers = [reply]
    with pytest.raises(error, match=message) as raised:
        draw(client)
    assert type(raised.value) is error
    assert KEY not in str(raised.value)
    assert len(server.requests) == 1


def test_the_pause_of_an_overloaded_server_is_passed_on(server: Server, client: OpenAIImages) -> None:
    server.answers = [answer(429, retry_after="17")]
    with pytest.raises(Overloaded) as raised:
        draw(client)
    assert raised.value.retry_after == 17


def test_a_failure_is_retried_once(server: Server, client: OpenAIImages) -> None:
    server.answers = [answer(500), answer(200, images(picture()))]
    assert draw(client).shape == (1, SIZE, SIZE, 3)
    server.answers = [answer(500), answer(500), answer(200, images(picture()))]
    with pytest.raises(Unavailable, match="status 500"):
        draw(client)
    assert len(server.requests) == 4


def test_a_server_that_is_down_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening, so that connections are refused
        client = OpenAIImages(Upstream(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", backoff=0))
        with pytest.raises(Unavailable, match="cannot be reached"):
            draw(client)
        client.close()


def test_a_slow_server_ends_at_the_deadline_and_is_hung_up_on(server: Server, client: OpenAIImages) -> None:
    server.answers = [wait_for_end]
    with pytest.raises(DeadlineExceeded):
        draw(client, handle=RequestHandle(timeout=0.3))
    assert server.gone.wait(10)


def test_cancelling_closes_the_connection_and_more_requests_are_refused_meanwhile(
    server: Server, client: OpenAIImages
) -> None:
    server.answers = [wait_for_end]
    handle, errors = RequestHandle(timeout=20), []

    def first() -> None:
        with pytest.raises(Cancelled) as raised:
            draw(client, handle=handle)
        errors.append(raised.value)

    thread = threading.Thread(target=first)
    thread.start()
    assert server.arrived.wait(10)
    with pytest.raises(Overloaded) as refused:
        draw(client)
    assert refused.value.retry_after == 1
    assert len(server.requests) == 1
    handle.cancel()
    thread.join()
    assert len(errors) == 1
    assert server.gone.wait(10)
    server.answers = [answer(200, images(picture()))]
    assert wait_until(lambda: _shape_unless_full(client)) == (1, SIZE, SIZE, 3)


def _shape_unless_full(client: OpenAIImages) -> Any:
    try:
        return draw(client).shape
    except Overloaded:
        return None
