"""An object store: files over HTTP, with byte ranges."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class HttpStore:
    """A server of a folder with byte ranges that records its requests."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.asked: list[tuple[str, str]] = []
        """Paths of GETs, and their ranges."""
        self.hanging = False
        self.together: threading.Barrier | None = None
        """Where GETs of images wait for one another."""
        self.closing = threading.Event()
        handler = partial(_Handler, self, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def images(self) -> list[str]:
        return [given for path, given in self.asked if path.endswith(".tar")]


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # A connection for each request, so that none outlives the server.

    def __init__(self, store: HttpStore, *arguments: Any, **named: Any) -> None:
        self._store = store
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:
        given = self.headers.get("Range", "")
        self._store.asked.append((self.path, given))
        if self._store.hanging:
            self._store.closing.wait()
            return
        if self._store.together and self.path.endswith(".tar"):
            self._store.together.wait()
        path = Path(self.translate_path(self.path))
        if not given or not path.is_file():
            super().do_GET()
            return
        first, last = (int(number) for number in given.removeprefix("bytes=").split("-"))
        data = path.read_bytes()
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", f"{len(data[first : last + 1])}")
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Callable[..., HttpStore]]:
    """Return a function that serves `bucket` over HTTP, optionally at the port of a closed store."""
    stores: list[HttpStore] = []

    def make(port: int = 0) -> HttpStore:
        stores.append(HttpStore(tmp_path / "bucket", port))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
