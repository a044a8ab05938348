"""The service contacts no address that a request names."""

import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from reimagen.v1 import generation_pb2 as pb

SECONDS = 60


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def is_untouched(listening: socket.socket) -> bool:
    """Whether nobody has connected; the system completes connections before they are accepted."""
    try:
        listening.accept()
    except BlockingIOError:
        return True
    return False


def test_an_address_is_no_image(served: Any, listening: socket.socket) -> None:
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/image.png"
    svg = f'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
    images: list[Any] = [url, f"data:{url}", svg, f"file://{url}", {"url": url}]
    for image in images:
        body = {"prompt": "a square", "references": [{"image": image, "caption": "a square"}]}
        assert served.rest.post("/v1/images/generations", json=body).status_code == 400
    reference = pb.Reference(image=url.encode(), caption=url)
    with pytest.raises(grpc.RpcError) as refused:
        list(served.generation.Generate(pb.GenerateRequest(prompt=url, references=[reference]), timeout=SECONDS))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    drawn = {"prompt": url, "size": "16x16", "user": url, "retrieval": {"k": 0, "sources": [url]}}
    assert served.rest.post("/v1/images/generations", json=drawn).status_code == 200
    assert is_untouched(listening)
