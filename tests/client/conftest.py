"""A generator and its retriever for the tests of the client, and a server that fails as a test says."""

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from reimagen_client import Client
from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings as RetrieverSettings

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
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def service(stack: contextlib.ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Service:
    source = tmp_path_factory.mktemp("source")
    rows = []
    for number, (key, caption) in enumerate(CAPTIONS.items()):
        (source / f"{number}.png").write_bytes(png((80 * number, 120, 40)))
        rows.append({"image": f"{number}.png", "caption": caption, "id": key, "license": "MIT", "source": "tests"})
    (source / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    base = tmp_path_factory.mktemp("base") / "kb"
    build(open_source(source), base)
    retriever = RetrieverServer(RetrieverSettings(knowledge_base=base, grpc="127.0.0.1:0", http="127.0.0.1:0"))
    retriever.start()
    stack.callback(retriever.stop, 0)
    folder = tmp_path_factory.mktemp("tiny")
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)
    cascade.save(folder)
    settings = GeneratorSettings(
        weights=folder,
        retriever=retriever.addresses["grpc"],
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        stop_seconds=0,
        jobs=folder / "jobs",
    )
    generator = GeneratorServer(CascadeBackend(Engine(cascade, capacity=settings.capacity)), settings)
    generator.start()
    stack.callback(generator.stop)
    return Service(f"http://127.0.0.1:{generator.http_port}/v1", f"127.0.0.1:{generator.grpc_port}")


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[Client]:
    with Client(service.base_url, timeout=240) as client:
        yield client


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "mine.png"
    path.write_bytes(png((200, 10, 90)))
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
