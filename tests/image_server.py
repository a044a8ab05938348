"""An image server that speaks OpenAI's API and answers as a test says, with every fault."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

SIZE = 32


class Server(ThreadingHTTPServer):
    """An image server that answers each request with the next of `answers`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Callable[[Handler], None]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.arrived = threading.Event()
        self.gone = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Records a request and gives the next answer."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.server.arrived.set()
        self.server.answers.pop(0)(self)

    def log_message(self, *_: Any) -> None:
        pass


def picture(size: int = SIZE) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (200, 30, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def images(*files: bytes) -> bytes:
    return json.dumps({"data": [{"b64_json": base64.b64encode(file).decode()} for file in files]}).encode()


def answer(status: int, body: bytes = b"", declared: int | None = None, **headers: str) -> Callable[[Handler], None]:
    def give(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body) if declared is None else declared))
        handler.end_headers()
        handler.wfile.write(body)

    return give


def wait_for_end(handler: Handler) -> None:
    """Answer nothing, and record when the client closes the connection."""
    if handler.rfile.read(1) == b"":
        handler.server.gone.set()


@contextmanager
def serving() -> Iterator[Server]:
    """Run an image server until the end of the context."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
