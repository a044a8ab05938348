"""The check of keys in front of an application and of RPCs, over real sockets."""

import logging
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from fastapi import FastAPI, Request
from httpx import Client, Response
from hypothesis import given
from hypothesis import strategies as st

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1 import retrieval_pb2_grpc
from reimagen_common.access.caller import ANONYMOUS, Caller, acting_as, current_caller
from reimagen_common.access.guard import Guard
from reimagen_common.access.http import add_key_check
from reimagen_common.access.key_file import KeyFile, add_key
from reimagen_common.access.keys import Key, make_key
from reimagen_common.access.rights import OPEN, Right, Rights
from reimagen_common.access.routes import COMMON_ROUTES, Routes
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.http_docs import add_docs
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.operations import Health, operations_router

SECONDS = 20
ROUTES: Rights = {
    **COMMON_ROUTES,
    "GET /read/{name:path}": Right.READ,
    "POST /write": Right.WRITE,
}
CALLS = {
    "reimagen.v1.Retrieval/Search": Right.READ,
    "reimagen.v1.Retrieval/BatchSearch": Right.READ,
    "reimagen.v1.Retrieval/GetPair": Right.READ,
    "reimagen.v1.Retrieval/ListPairs": Right.READ,
    "reimagen.v1.Retrieval/AddPairs": Right.WRITE,
    "reimagen.v1.Retrieval/DeletePairs": Right.WRITE,
    "reimagen.v1.Retrieval/Describe": Right.READ,
}


@dataclass(frozen=True)
class Served:
    rest: Client
    channel: grpc.Channel
    port: int
    read: str
    write: str
    stored: Key


class Retrieval(retrieval_pb2_grpc.RetrievalServicer):
    """Answers with the caller that it sees."""

    def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        logging.getLogger("test").info("searching")
        return pb.SearchResponse(revision=current_caller().id)

    def AddPairs(self, requests: Any, context: Any) -> pb.AddPairsResponse:
        raise AssertionError("not called")

    def BatchSearch(self, request: Any, context: Any) -> pb.BatchSearchResponse:
        raise AssertionError("not called")

    def GetPair(self, request: Any, context: Any) -> pb.Pair:
        raise AssertionError("not called")

    def ListPairs(self, request: Any, context: Any) -> pb.ListPairsResponse:
        raise AssertionError("not called")

    def DeletePairs(self, request: Any, context: Any) -> pb.DeletePairsResponse:
        raise AssertionError("not called")

    def Describe(self, request: Any, context: Any) -> pb.DescribeResponse:
        raise AssertionError("not called")


def make_app() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    add_docs(app)
    register_error_handlers(app)
    app.include_router(operations_router(lambda: Health(status="ready")))

    @app.get("/read/{name:path}")
    def read(name: str) -> str:
        return current_caller().id

    @app.post("/write")
    async def write(request: Request) -> int:
        return len(await request.body())

    return app


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    read, stored = make_key("reader", frozenset({Right.READ}))
    write, writer = make_key("writer", frozenset({Right.WRITE}))
    for key in (stored, writer):
        add_key(file, key)
    guard = Guard(KeyFile(file))
    app = make_app()
    add_key_check(app, guard, ROUTES)
    listening = listen("127.0.0.1:0")
    http = HttpServer(app, listening)
    rpc = GrpcServer(address="127.0.0.1:0", workers=1, max_message_bytes=1 << 20, guard=guard, rights=CALLS)
    rpc.add(
        lambda server: retrieval_pb2_grpc.add_RetrievalServicer_to_server(Retrieval(), server), "reimagen.v1.Retrieval"
    )
    http.start()
    rpc.start()
    port = listening.getsockname()[1]
    with (
        Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as rest,
        grpc.insecure_channel(f"127.0.0.1:{rpc.port}") as channel,
    ):
        yield Served(rest, channel, port, read, write, stored)
    rpc.stop(0)
    http.stop()


def header(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def status_of(served: Served, request: bytes) -> int:
    """The status of the answer to a request as it is on the wire."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


def check_unauthenticated(answer: Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")


def test_a_route_needs_a_key_with_its_right(served: Served) -> None:
    check_unauthenticated(served.rest.get("/read/a/b"))
    answer = served.rest.get("/read/a/b", headers=header(served.read))
    assert (answer.status_code, answer.json()) == (200, served.stored.id)
    denied = served.rest.get("/read/a/b", headers=header(served.write))
    assert denied.status_code == 403
    assert denied.json()["error"]["code"] == "insufficient_permissions"
    assert "lacks the right 'read'; it has: write" in denied.json()["detail"]
    assert served.rest.head("/read/a", headers=header(served.read)).status_code == 200
    check_unauthenticated(served.rest.get("/read/a", headers=header(served.read[:-3] + "abc")))


def test_a_body_is_not_read_without_a_key(served: Served) -> None:
    # The body never arrives; an application that waited for it would not answer.
    assert status_of(served, b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n") == 401


@pytest.mark.parametrize("path", [name.partition(" ")[2] for name, right in COMMON_ROUTES.items() if right is OPEN])
def test_health_and_docs_are_open(served: Served, path: str) -> None:
    assert served.rest.get(path.format(name="start.js")).status_code == 200


@pytest.mark.parametrize("path", ["/unknown", "/read", "/write/", "//livez", "/livez/", "/LIVEZ", "/livez%2f..%2fread"])
def test_unknown_paths_are_not_told_from_known_ones(served: Served, path: str) -> None:
    check_unauthenticated(served.rest.get(path))
    assert served.rest.get(path, headers=header(served.read)).status_code in (307, 404, 405)


def test_metrics_are_for_this_machine_and_for_keys(served: Served) -> None:
    assert served.rest.get("/metrics").status_code == 200
    # A proxy on this machine asks for someone else.
    for name in ("Forwarded", "X-Forwarded-For"):
        proxied = {name: "203.0.113.7"}
        check_unauthenticated(served.rest.get("/metrics", headers=proxied))
        assert served.rest.get("/metrics", headers=proxied | header(served.read)).status_code == 200
        assert served.rest.get("/metrics", headers=proxied | header(served.write)).status_code == 403


@given(st.lists(st.one_of(st.binary(), st.just(b"Bearer x"), st.text().map(str.encode)), max_size=3))
def test_any_header_is_answered(served: Served, values: Sequence[bytes]) -> None:
    # Newlines would end the header, which the client refuses to send.
    values = [value.translate(None, b"\r\n\0").strip() for value in values]
    raw = b"GET /read/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    raw += b"".join(b"Authorization: " + value + b"\r\n" for value in values) + b"\r\n"
    # 400: h11 refuses control characters before the application sees them.
    assert status_of(served, raw) in (401, 400)


def search(served: Served, *metadata: tuple[str, str]) -> str:
    stub = retrieval_pb2_grpc.RetrievalStub(served.channel)
    answer: str = stub.Search(pb.SearchRequest(query="a"), timeout=SECONDS, metadata=metadata).revision
    return answer


def code_of(served: Served, *metadata: tuple[str, str]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        search(served, *metadata)
    return caught.value.code()


def test_an_rpc_needs_a_key_with_its_right(served: Served) -> None:
    assert search(served, ("authorization", f"Bearer {served.read}")) == served.stored.id
    assert code_of(served) is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(served, ("authorization", "Bearer")) is grpc.StatusCode.UNAUTHENTICATED
    twice = [("authorization", f"Bearer {served.read}")] * 2
    assert code_of(served, *twice) is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(served, ("authorization", f"Bearer {served.write}")) is grpc.StatusCode.PERMISSION_DENIED


def test_refused_calls_take_no_place(served: Served) -> None:
    """One worker and four places: a hundred strangers at once do not make the service busy."""
    with ThreadPoolExecutor(16) as threads:
        strangers = [threads.submit(code_of, served) for _ in range(100)]
        assert search(served, ("authorization", f"Bearer {served.read}")) == served.stored.id
    assert {stranger.result() for stranger in strangers} == {grpc.StatusCode.UNAUTHENTICATED}


def test_a_bad_message_of_a_stranger_is_not_decoded(served: Served) -> None:
    call = served.channel.unary_unary("/reimagen.v1.Retrieval/Search", lambda data: data, lambda data: data)
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_stream_is_refused_before_it_is_read(served: Served) -> None:
    stub = retrieval_pb2_grpc.RetrievalStub(served.channel)
    key = (("authorization", f"Bearer {served.read}"),)
    with pytest.raises(grpc.RpcError) as caught:
        stub.AddPairs(iter([pb.AddPairsRequest()]), timeout=SECONDS, metadata=key)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_logs_have_the_id_of_the_key_and_not_the_key(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    from reimagen_common.logs import _Logfmt

    handler = logging.StreamHandler()
    handler.setFormatter(_Logfmt("test"))
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        search(served, ("authorization", f"Bearer {served.read}"))
        served.rest.get("/read/a", headers=header(served.read))
        logging.getLogger("test").info("a key: %s", served.read)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    lines = [line for line in capfd.readouterr().err.splitlines() if "service=test" in line]
    assert [f"key={served.stored.id}" in line for line in lines if "msg=searching" in line] == [True]
    assert [f"key={served.stored.id}" in line for line in lines if "msg=request" in line] == [True]
    assert served.read not in "\n".join(lines)


def test_a_route_without_a_right_does_not_start() -> None:
    app = make_app()

    @app.delete("/everything")
    def forgotten() -> None:
        return None

    for guard in (Guard(), Guard(keys=object())):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no right is assigned to DELETE /everything"):
            add_key_check(app, guard, ROUTES)


def test_an_rpc_without_a_right_does_not_start(served: Served, tmp_path: Path) -> None:
    add_key(tmp_path / "keys", served.stored)
    rights = {name: right for name, right in CALLS.items() if not name.endswith("/DeletePairs")}
    server = GrpcServer(
        address="127.0.0.1:0",
        workers=1,
        max_message_bytes=1024,
        guard=Guard(KeyFile(tmp_path / "keys")),
        rights=rights,
    )
    try:
        with pytest.raises(ValueError, match=r"no right is assigned to reimagen\.v1\.Retrieval/DeletePairs"):
            server.add(lambda _: None, "reimagen.v1.Retrieval")
    finally:
        server.stop(0)


def test_the_first_entry_that_matches_counts() -> None:
    routes = Routes({"GET /pairs/{id:path}/image": Right.READ, "GET /pairs/{id:path}": Right.WRITE})
    assert routes.find("GET", "/pairs/a/image") == "GET /pairs/{id:path}/image"
    assert routes.find("GET", "/pairs/a") == "GET /pairs/{id:path}"
    assert routes.find("POST", "/pairs/a") is None


def test_the_caller_outside_of_requests_may_do_everything() -> None:
    assert current_caller() is ANONYMOUS
    with acting_as(Caller("a1b2c3d4", frozenset())):
        assert current_caller().id == "a1b2c3d4"
    assert current_caller() is ANONYMOUS
