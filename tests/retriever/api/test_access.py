"""Every route and RPC of a retriever that requires keys, over real sockets."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from fastapi import APIRouter

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.access.calls import calls_of
from reimagen_common.access.guard import Guard
from reimagen_common.access.key_file import add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_common.access.routes import routes_of
from reimagen_common.operations import Health, operations_router
from reimagen_retriever.api.grpc import SERVICE_NAME
from reimagen_retriever.api.http import create_app
from reimagen_retriever.api.rights import CALLS, ROUTES
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings
from tests.access import check_route, check_rpc, header

SECONDS = 60
ALLOWED = {200, 400, 404}
APP = "https://app.example.org"


@dataclass(frozen=True)
class Keyed:
    service: RetrieverServer
    rest: httpx.Client
    channel: grpc.Channel
    keys: dict[Right, str]
    source: Path


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, make_image: Any) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("source")
    (folder / "fox.png").write_bytes(make_image("red"))
    (folder / "fox.txt").write_text("a red fox")
    base = tmp_path_factory.mktemp("base") / "kb"
    build(open_source(folder), base)
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    keys = {}
    for right in Right:
        keys[right], stored = make_key(right.value, frozenset({right}))
        add_key(file, stored)
    service = RetrieverServer(
        Settings(knowledge_base=str(base), grpc="127.0.0.1:0", http="127.0.0.1:0", keys=file, cors_origins=(APP,))
    )
    service.start()
    try:
        with (
            httpx.Client(base_url=f"http://{service.addresses['http']}", timeout=SECONDS) as rest,
            grpc.insecure_channel(service.addresses["grpc"]) as channel,
        ):
            yield Keyed(service, rest, channel, keys, folder)
    finally:
        service.stop(0)


def ask(keyed: Keyed, route: str, headers: dict[str, str]) -> int:
    method, _, path = route.partition(" ")
    # Not from this machine, as far as metrics are concerned.
    headers = headers | {"X-Forwarded-For": "203.0.113.7"}
    url = path.replace("{id:any}", "missing").replace("{name}", "start.js")
    return keyed.rest.request(method, url, headers=headers).status_code


def test_every_route_and_rpc_has_its_right() -> None:
    operations: APIRouter = operations_router(lambda: Health(status="ready"))
    service: Any = None  # No request is made.
    app = create_app(service, operations, Guard(), workers=1, body_seconds=1, base_url=None)
    assert set(routes_of(app)) == ROUTES.keys()
    assert set(calls_of(SERVICE_NAME)) == CALLS.keys()


@pytest.mark.parametrize(("route", "right"), ROUTES.items())
def test_a_route_is_for_keys_with_its_right(keyed: Keyed, route: str, right: Right | None) -> None:
    check_route(partial(ask, keyed, route), keyed.keys, right, ALLOWED)


@pytest.mark.parametrize(("call", "right"), CALLS.items())
def test_an_rpc_is_for_keys_with_its_right(keyed: Keyed, call: str, right: Right) -> None:
    streams = call.endswith("/AddPairs")
    kind: Any = keyed.channel.stream_unary if streams else keyed.channel.unary_unary
    run = kind(f"/{call}", lambda data: data, lambda data: data)
    check_rpc(lambda metadata: run(iter([]) if streams else b"", timeout=SECONDS, metadata=metadata), keyed.keys, right)


def test_a_search_works_with_a_key(keyed: Keyed) -> None:
    found = keyed.rest.get("/v1/search", params={"query": "a fox"}, headers=header(keyed.keys[Right.READ])).json()
    assert [one["id"] for one in found["neighbors"]] == ["fox"]
    metadata = (("authorization", f"Bearer {keyed.keys[Right.READ]}"),)
    answer = RetrievalStub(keyed.channel).Search(pb.SearchRequest(query="a fox"), metadata=metadata, timeout=SECONDS)
    assert [neighbor.pair.id for neighbor in answer.neighbors] == ["fox"]


def test_the_commands_take_a_key(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "reimagen_retriever.cli", "remove", "kb", "nothing"]
    command += ["--address", keyed.service.addresses["grpc"]]
    monkeypatch.delenv("REIMAGEN_RETRIEVER_CLIENT_API_KEY", raising=False)
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "this service requires an API key" in refused.stderr
    monkeypatch.setenv("REIMAGEN_RETRIEVER_CLIENT_API_KEY", keyed.keys[Right.WRITE])
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "0 removed" in done.stdout) == (0, True)


def test_other_machines_need_keys_or_a_decision(tmp_path: Path) -> None:
    exposures: list[dict[str, Any]] = [{"http": "0.0.0.0:8001"}, {"grpc": "0.0.0.0:50051"}]
    for exposed in exposures:
        with pytest.raises(ValueError, match="keys: must be set, because other machines can reach 0"):
            Settings(knowledge_base="kb", **exposed)
        assert Settings(knowledge_base="kb", **exposed, allow_anonymous=True).keys is None
    assert Settings(knowledge_base="kb", grpc="0.0.0.0:1", keys=tmp_path).keys == tmp_path


def test_only_pages_of_allowed_origins_may_write(keyed: Keyed) -> None:
    headers = header(keyed.keys[Right.WRITE])
    assert keyed.rest.delete("/v1/pairs/missing", headers=headers | {"Origin": APP}).status_code == 404
    assert keyed.rest.delete("/v1/pairs/missing", headers=headers | {"Origin": "https://evil.org"}).status_code == 403


def test_no_address_in_a_request_is_contacted(keyed: Keyed, make_image: Any) -> None:
    headers, reading = header(keyed.keys[Right.WRITE]), header(keyed.keys[Right.READ])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/image.png"
        form = {"caption": "a fetched fox", "source": url, "license": url}
        refused = keyed.rest.post("/v1/pairs", data=form, files={"image": ("a.png", url.encode())}, headers=headers)
        assert refused.status_code == 400
        files = {"image": (url, make_image("blue"))}
        added = keyed.rest.post("/v1/pairs", data=form | {"id": "named"}, files=files, headers=headers)
        assert added.status_code == 200
        assert keyed.rest.delete("/v1/pairs/named", headers=headers).status_code == 200
        assert keyed.rest.get("/v1/search", params={"query": url}, headers=reading).status_code == 200
        # The system completes connections before they are accepted.
        with pytest.raises(BlockingIOError):
            listening.accept()
