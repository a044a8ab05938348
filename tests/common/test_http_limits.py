"""Limits that the server enforces before the application: hosts, body sizes, and concurrent requests."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import Client, Response
from pydantic import BaseModel

from reimagen_common.http_bodies import Bodies, BodyLimits, RequestSlots
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_hosts import link
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.operations import Health, operations_router
from tests.waiting import wait_until

SECONDS = 30
MIB = 1024 * 1024


class Text(BaseModel):
    text: str


@dataclass
class Served:
    """A server with two slots and one large upload at a time; the test decides when `/hold` answers."""

    port: int
    client: Client
    base_url: list[str | None] = field(default_factory=lambda: [None])
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)

    def send(self, content: str | bytes) -> socket.socket:
        """Send bytes over a new connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        connection.sendall(content.encode() if isinstance(content, str) else content)
        return connection

    def post(self, path: str, length: int, *, sent: bytes = b"") -> socket.socket:
        """Begin a request whose body has `length` bytes, of which some are sent."""
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return self.send(f"{head}Content-Length: {length}\r\n\r\n".encode() + sent)


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Return the status of the response, and its problem document."""
    response = HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def is_closed(connection: socket.socket) -> bool:
    return connection.recv(1) == b""


@contextmanager
def serving(*, seconds: float = SECONDS) -> Iterator[Served]:
    app = FastAPI()
    limits = BodyLimits(maximum_bytes=MIB, larger={"/large": 2 * MIB}, advice="send less", uploads=1, seconds=seconds)
    app.add_middleware(RequestSlots, slots=2)
    app.add_middleware(Bodies, limits=limits)
    register_error_handlers(app)
    app.include_router(operations_router(lambda: Health(status="ready")))

    @app.post("/echo")
    @app.post("/large")
    async def echo(sent: Text) -> int:
        return len(sent.text)

    @app.get("/named")
    async def named(request: Request) -> str:
        return link(request, running.base_url[0], "named")

    @app.post("/hold")
    def hold(sent: Text) -> str:
        running.entered.release()
        assert running.release.wait(SECONDS)
        return sent.text

    listening = listen("127.0.0.1:0")
    server = HttpServer(app, listening, allowed_hosts=frozenset({"images.example.org", "fd00::1"}))
    server.start()
    port: int = listening.getsockname()[1]
    with Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
        running = Served(port, client)
        try:
            yield running
        finally:
            running.release.set()
            server.stop()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def ask(served: Served, host: str, path: str = "/named") -> Response:
    return served.client.get(path, headers={"host": host})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1.2.3:80", "localhost:8000", "LOCALHOST", "localhost.", "[::1]:9", "images.example.org",
        "Images.Example.ORG:443", "[fd00:0::1]",
    ],
)  # fmt: skip
def test_loopback_and_allowed_hosts_are_answered(served: Served, host: str) -> None:
    assert ask(served, host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example", "rebound.example:8000", "127.0.0.1.rebound.example", "localhost.rebound.example", "10.0.0.7",
        "images.example.org.rebound.example", "localhost@rebound.example", "[::2]", "", "rebound.example, localhost",
    ],
)  # fmt: skip
def test_other_hosts_are_refused(served: Served, host: str) -> None:
    for path in ("/named", "/nowhere", "/healthz"):
        refused = ask(served, host, path)
        assert refused.status_code == 421
        assert refused.json()["field"] == "host"
        assert "allowed_hosts" in refused.json()["detail"]


def test_a_request_without_a_host_is_answered(served: Served) -> None:
    with served.send("GET /livez HTTP/1.0\r\n\r\n") as connection:
        assert answer(connection)[0] == 200


def test_links_begin_with_the_public_url_if_set(served: Served) -> None:
    forged = {"x-forwarded-host": "rebound.example", "x-forwarded-proto": "https"}
    own = served.client.get("/named", headers=forged).json()
    assert own == f"http://127.0.0.1:{served.port}/named"
    served.base_url[0] = "https://images.example.org/api"
    assert served.client.get("/named").json() == "https://images.example.org/api/named"


def test_two_lengths_of_a_body_are_refused(served: Served) -> None:
    head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
    with served.send(f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n") as connection:
        status, problem = answer(connection)
        assert (status, problem["field"]) == (400, "content-length")
        assert is_closed(connection)


def test_a_body_may_be_as_large_as_its_path_allows(served: Served) -> None:
    whole = {"text": "x" * (MIB + 1)}
    assert served.client.post("/large", json=whole).json() == MIB + 1
    refused = served.client.post("/echo", json=whole)
    assert (refused.status_code, refused.json()["detail"]) == (413, "body: must be at most 1 MiB; send less")


def test_a_body_that_does_not_arrive_times_out() -> None:
    with serving(seconds=0.2) as served:
        started = time.monotonic()
        with served.post("/echo", 100, sent=b'{"') as connection:
            status, problem = answer(connection)
            assert (status, problem["field"], problem["error"]["type"]) == (408, "body", "timeout_error")
            assert time.monotonic() - started < SECONDS / 2
            assert is_closed(connection)
        assert served.client.post("/echo", json={"text": "x"}).json() == 1


def test_bodies_that_do_not_arrive_occupy_no_slot(served: Served) -> None:
    slow = [served.post("/echo", 100, sent=b"{") for _ in range(10)]
    assert served.client.post("/echo", json={"text": "a fox"}).json() == 5
    for connection in slow:
        connection.close()


def test_a_request_beyond_the_slots_is_refused() -> None:
    with serving() as served:
        content = b'{"text": "kept"}'
        held = [served.post("/hold", len(content), sent=content) for _ in range(2)]
        for _ in held:
            assert served.entered.acquire(timeout=SECONDS)
        with served.post("/hold", len(content)) as unread:
            status, problem = answer(unread)
        assert (status, problem["error"]["type"]) == (429, "overloaded_error")
        busy = served.client.get("/named")
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
        assert served.client.get("/readyz").status_code == 200
        served.release.set()
        for connection in held:
            response = HTTPResponse(connection)
            response.begin()
            assert (response.status, response.read()) == (200, b'"kept"')
            connection.close()
        assert served.client.get("/named").status_code == 200


def test_concurrent_large_bodies_are_limited_and_small_ones_are_not() -> None:
    with serving() as served:
        large = {"text": "x" * 100_000}
        stalled = served.post("/large", MIB, sent=b'{"text": "')
        wait_until(lambda: served.client.post("/large", json=large).status_code == 429)
        assert served.client.post("/large", json={"text": "a fox"}).json() == 5
        stalled.close()
        wait_until(lambda: served.client.post("/large", json=large).status_code == 200)


@pytest.mark.parametrize(
    ("sent", "status"),
    [("NO REQUEST\r\n\r\n", 400), ("GET /\x00 HTTP/1.1\r\n\r\n", 400), (f"GET /{'x' * 70_000}", 431)],
    ids=["words", "null", "long"],
)
def test_an_invalid_request_line_gets_a_problem(served: Served, sent: str, status: int) -> None:
    with served.send(sent) as connection:
        found, problem = answer(connection)
        assert (found, problem["status"], problem["error"]["type"]) == (status, status, "invalid_request_error")
        assert is_closed(connection)
    assert served.client.get("/named").status_code == 200


def test_a_head_that_does_not_arrive_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reimagen_common.http_protocol._HEAD_SECONDS", 0.2)
    with serving() as served:
        with served.send("GET /named HTTP/1.1\r\nHo") as connection:
            assert is_closed(connection)
        with served.send("GET /named HTTP/1.1\r\nHost: localhost\r\n\r\nGET /na") as connection:
            response = HTTPResponse(connection)
            response.begin()
            assert response.status == 200
            response.read()
            assert is_closed(connection)
