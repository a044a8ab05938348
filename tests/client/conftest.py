"""A generator and its retriever for the tests of the client, and a server that fails as a test says."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from reimagen_client import Client
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from tests.real_services import serving_cascade, serving_pairs

PROMPT = "a red fox in the snow"
CAPTIONS = {"fox/1?": "a red fox", "kea": "a kea"}


def png(color: tuple[int, int, int], size: int = 24) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (size, size), color)
    image.paste("white", (0, 0, color[0] // 16, size))
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Service:
    """A running generator."""

    base_url: str
    grpc: str


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    pairs = {
        pair_id: (caption, png((80 * number, 120, 40))) for number, (pair_id, caption) in enumerate(CAPTIONS.items())
    }
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)
    folder = tmp_path_factory.mktemp("tiny")
    with (
        serving_pairs(tmp_path_factory.mktemp("base"), pairs, license="MIT", source="tests") as retriever,
        serving_cascade(folder, cascade, retriever.addresses["grpc"]) as generator,
    ):
        yield Service(f"http://127.0.0.1:{generator.http_port}/v1", f"127.0.0.1:{generator.grpc_port}")


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[Client]:
    with Client(service.base_url, timeout=240) as client:
        yield client


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "mine.png"
    path.write_bytes(png((200, 10, 90)))
    return path


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Write a disc on a plain ground, which can be cut out."""
    path = tmp_path / "disc.png"
    image = Image.new("RGB", (64, 48), "white")
    ImageDraw.Draw(image).ellipse((2, 2, 26, 26), "red")
    image.save(path)
    return path


@dataclass(frozen=True)
class Request:
    """A request that the failing server received."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int, body: object = None, **headers: str) -> Answer:
    """Return an answer with a JSON body, or with text."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if status != 204:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if status != 204:
            handler.wfile.write(content)

    return send


def broken(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


@dataclass
class Failing:
    """A server that gives prepared answers, in order, and repeats the last one."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


@pytest.fixture
def failing() -> Iterator[Failing]:
    state = Failing()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append(Request(f"{self.command} {self.path}", dict(self.headers), body))
            (state.answers.pop(0) if len(state.answers) > 1 else state.answers[0])(self)

        do_GET = do_POST = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
