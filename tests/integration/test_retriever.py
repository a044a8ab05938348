"""The retriever as its own process, with real Lucene, Redis and gRPC."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.local_redis import LocalRedis
from tests.waiting import LoggedProcess, wait_until

PROGRAM = Path(sys.executable).with_name("reimagen-retriever")
SECONDS = 240
LARGE = [("grpc.max_receive_message_length", 72 * 1024 * 1024)]

CAPTIONS = {
    "fox-1": "a red fox",
    "fox-2": "a red fox",
    "kea-1": "a kea",
    "kea-2": "a kea",
    "leopard": "a snow leopard",
    "meadow": "an empty snowy meadow under a grey sky",
}


def write_source(folder: Path, captions: Mapping[str, str]) -> Path:
    folder.mkdir()
    with (folder / "captions.jsonl").open("w") as lines:
        for number, (identifier, caption) in enumerate(captions.items()):
            Image.new("RGB", (20, 10 + number), f"hsl({40 * number % 360}, 80%, {30 + number % 40}%)").save(
                folder / f"{identifier}.png"
            )
            row = {"image": f"{identifier}.png", "caption": caption, "license": "MIT", "source": f"pack@{number}"}
            lines.write(json.dumps(row) + "\n")
    return folder


def build(source: Path, base: Path) -> None:
    subprocess.run([PROGRAM, "build", source, base], check=True, capture_output=True)


@dataclass
class Service:
    """A running `reimagen-retriever serve`, and a client of it."""

    process: LoggedProcess
    address: str
    channel: grpc.Channel
    stub: RetrievalStub


@contextmanager
def serving(base: Path, redis_url: str | None = None) -> Iterator[Service]:
    options = ["--redis-url", redis_url] if redis_url else []
    with LoggedProcess([PROGRAM, "serve", base, "--grpc", "127.0.0.1:0", *options]) as process:
        ready = process.wait_for_line(r"msg=ready .*grpc=(\S+)")
        with grpc.insecure_channel(ready[1], options=LARGE) as channel:
            yield Service(process, ready[1], channel, RetrievalStub(channel))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("retriever") / "source", CAPTIONS)


@pytest.fixture(scope="module")
def base(source: Path) -> Path:
    build(source, source.parent / "kb")
    return source.parent / "kb"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[LocalRedis]:
    with LocalRedis() as local:
        yield local


@pytest.fixture(scope="module")
def service(base: Path, redis_server: LocalRedis) -> Iterator[Service]:
    with serving(base, redis_server.url) as running:
        yield running


def test_a_search_returns_pairs_as_they_were_added(service: Service, source: Path) -> None:
    answer = service.stub.Search(pb.SearchRequest(query="a kea in the snow", k=16))
    assert [(neighbor.rank, neighbor.pair.id) for neighbor in answer.neighbors] == [(1, "kea-1"), (2, "kea-2")]
    assert answer.neighbors[0].score == answer.neighbors[1].score > 0
    pair = answer.neighbors[1].pair
    assert pair.image == (source / "kea-2.png").read_bytes()
    assert (pair.caption, pair.media_type, pair.width, pair.height) == ("a kea", "image/png", 20, 13)
    assert (pair.source, pair.license) == ("pack@3", "MIT")
    assert service.stub.GetPair(pb.GetPairRequest(id="kea-2")) == pair


def test_k_is_two_by_default_and_only_relevant_pairs_are_found(service: Service) -> None:
    assert len(service.stub.Search(pb.SearchRequest(query="fox and kea")).neighbors) == 2
    unknown = pb.SearchRequest(query="a unicorn in the snow")
    assert not service.stub.Search(unknown).neighbors
    unknown.minimum_score = 0
    assert [neighbor.pair.id for neighbor in service.stub.Search(unknown).neighbors] == ["leopard"]


def test_an_empty_search_says_why_and_what_to_change(service: Service) -> None:
    request = pb.SearchRequest(query="a big yak in the snow", k=1)
    nothing = service.stub.Search(request).nothing_found
    assert (nothing.field, nothing.nearest.id, list(nothing.lacking)) == ("relevance", "leopard", ["yak"])
    assert nothing.reason == (
        "no caption names 'yak'; the nearest is 'a snow leopard' (leopard), which does not: "
        "set relevance to any to include it"
    )
    request.relevance = pb.RELEVANCE_ANY
    request.explain = True
    answer = service.stub.Search(request)
    assert [neighbor.pair.id for neighbor in answer.neighbors] == ["leopard"]
    assert list(answer.neighbors[0].explanation.named) == ["snow"]
    assert not answer.HasField("nothing_found")


def test_per_entity_finds_each_entity_of_a_query(service: Service) -> None:
    request = pb.SearchRequest(query="a red fox and a kea in the snow", k=2)
    per_entity = pb.SearchRequest(query=request.query, k=4, per_entity=True)
    plain, each = service.stub.BatchSearch(pb.BatchSearchRequest(searches=[request, per_entity])).responses
    assert [neighbor.pair.id for neighbor in plain.neighbors] == ["fox-1", "fox-2"]
    assert [(neighbor.rank, neighbor.pair.id) for neighbor in each.neighbors] == [
        (1, "fox-1"),
        (2, "kea-1"),
        (3, "fox-2"),
        (4, "kea-2"),
    ]
    again = service.stub.Search(per_entity)
    assert again.cached
    assert again.neighbors == each.neighbors


def test_a_cached_answer_equals_the_first_one(service: Service) -> None:
    request = pb.SearchRequest(query="a red fox that is cached", k=3)
    first, second = service.stub.Search(request), service.stub.Search(request)
    assert (first.cached, second.cached) == (False, True)
    second.cached = False
    assert first == second


def test_a_batch_is_answered_in_order(service: Service) -> None:
    searches = [pb.SearchRequest(query=query, omit_images=True) for query in ("a kea", "a unicorn", "a fox")]
    answers = service.stub.BatchSearch(pb.BatchSearchRequest(searches=searches)).responses
    assert [[neighbor.pair.caption for neighbor in answer.neighbors] for answer in answers] == [
        ["a kea", "a kea"],
        [],
        ["a red fox", "a red fox"],
    ]
    assert not any(neighbor.pair.image for answer in answers for neighbor in answer.neighbors)


def test_it_describes_itself(service: Service) -> None:
    description = service.stub.Describe(pb.DescribeRequest())
    assert (description.pairs, description.format_version, dict(description.licenses)) == (6, 6, {"MIT": 6})
    assert description.cache == pb.CACHE_STATE_UP
    assert description.relevance == pb.RELEVANCE_ENTITY
    assert description.revision == service.stub.Search(pb.SearchRequest(query="kea")).revision


def test_health_and_reflection(service: Service) -> None:
    # The published types of both stubs lack their methods.
    health: Any = health_pb2_grpc.HealthStub(service.channel)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    for name in ("", "reimagen.v1.Retrieval"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    (listed,) = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert "reimagen.v1.Retrieval" in {one.name for one in listed.list_services_response.service}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SearchRequest(), "query"),
        (pb.SearchRequest(query=" "), "query"),
        (pb.SearchRequest(query="x" * 10_000), "query"),
        (pb.SearchRequest(query="x", k=1_000), "k"),
        (pb.SearchRequest(query="x", k=2**32 - 1), "k"),
        (pb.SearchRequest(query="x", method=99), "method"),  # type: ignore[arg-type]
        (pb.SearchRequest(query="x", minimum_score=-1.5), "minimum_score"),
        (pb.SearchRequest(query="x", relevance=9), "relevance"),  # type: ignore[arg-type]
        (pb.SearchRequest(query="x", relevance=1, method=2), "relevance"),  # type: ignore[arg-type]
        (pb.SearchRequest(query="x", minimum_score=float("nan")), "minimum_score"),
    ],
)
def test_bad_input_is_refused_by_its_field(service: Service, request_: pb.SearchRequest, field: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        field: lambda: service.stub.Search(request_),
        f"searches[0].{field}": lambda: service.stub.BatchSearch(pb.BatchSearchRequest(searches=[request_])),
    }
    for name, call in calls.items():
        with pytest.raises(grpc.RpcError) as caught:
            call()
        status: grpc.Call = caught.value  # type: ignore[assignment]
        assert status.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert str(status.details()).startswith(f"{name}: ")
    assert service.stub.Search(pb.SearchRequest(query="a kea")).neighbors


@pytest.mark.parametrize(
    "query", ['"kea', "kea AND (", "+*:?^~[", "kea\x00kea", "k" * 1_000, "kea " * 250, "\U0001f98a"]
)
def test_any_query_is_plain_words(service: Service, query: str) -> None:
    found = [neighbor.pair.caption for neighbor in service.stub.Search(pb.SearchRequest(query=query)).neighbors]
    assert found in ([], ["a kea", "a kea"])


def test_an_unknown_pair_is_not_found(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.stub.GetPair(pb.GetPairRequest(id="dodo"))
    status: grpc.Call = caught.value  # type: ignore[assignment]
    assert status.code() == grpc.StatusCode.NOT_FOUND


def test_concurrent_callers_get_their_own_answers(service: Service) -> None:
    expected = {"kea": "a kea", "fox": "a red fox", "leopard": "a snow leopard"}

    def ask(number: int) -> bool:
        word = list(expected)[number % 3]
        # Earlier and later callers send the same query at the same time.
        request = pb.SearchRequest(query=f"a {word} number {number // 12}", k=1, minimum_score=0)
        answer = service.stub.Search(request, timeout=SECONDS)
        return [neighbor.pair.caption for neighbor in answer.neighbors] == [expected[word]]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(400)))


def test_a_new_build_is_served_without_cached_answers_of_the_old(
    tmp_path: Path, redis_server: LocalRedis, source: Path
) -> None:
    build(source, tmp_path / "kb")
    request = pb.SearchRequest(query="a kea before and after")
    with serving(tmp_path / "kb", redis_server.url) as service:
        before = service.stub.Search(request)
        assert service.stub.Search(request).cached
        build(write_source(tmp_path / "new", {"other-kea": "a kea"}), tmp_path / "kb")
        after = service.stub.Search(request)
        assert not after.cached
        assert after.revision != before.revision
        assert [neighbor.pair.id for neighbor in after.neighbors] == ["other-kea"]
        assert service.stub.Describe(pb.DescribeRequest()).pairs == 1


def test_searches_survive_a_restart_of_redis(base: Path) -> None:
    request = pb.SearchRequest(query="a kea without Redis")

    def state(service: Service) -> int:
        return service.stub.Describe(pb.DescribeRequest()).cache

    with LocalRedis() as redis_server, serving(base, redis_server.url) as service:
        before = service.stub.Search(request)
        redis_server.process.kill()
        redis_server.process.wait()
        for _ in range(5):
            answer = service.stub.Search(request)
            assert not answer.cached
            assert answer.neighbors == before.neighbors
        assert state(service) == pb.CACHE_STATE_DOWN
        redis_server.start()
        wait_until(lambda: state(service) == pb.CACHE_STATE_UP)
        service.stub.Search(request)
        assert service.stub.Search(request).cached
    assert service.process.log.count("Redis does not answer") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_redis_it_logs_so_and_a_signal_stops_it(base: Path, number: signal.Signals) -> None:
    with serving(base) as service:
        request = pb.SearchRequest(query="a kea")
        assert [service.stub.Search(request).cached for _ in range(2)] == [False, False]
        assert service.stub.Describe(pb.DescribeRequest()).cache == pb.CACHE_STATE_OFF
        service.process.wait_for_line("no Redis is configured")
        service.process.popen.send_signal(number)
        assert service.process.popen.wait(SECONDS) == 0
        service.process.wait_for_line("stopped")


def test_health_is_starting_before_it_is_ready(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    reported: list[str] = []

    def ready() -> bool:
        with suppress(httpx.TransportError):
            reported.append(httpx.get(f"http://{address}/healthz", timeout=SECONDS).json()["status"])
        return reported[-1:] == ["ready"]

    command = [str(PROGRAM), "serve", str(base), "--grpc", "127.0.0.1:0", "--http", address]
    with LoggedProcess(command):
        wait_until(ready)
    assert list(dict.fromkeys(reported)) == ["starting", "ready"]


def test_an_answer_of_sixteen_large_images_arrives(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    noise = Image.frombytes("RGB", (1_150, 1_150), os.urandom(1_150 * 1_150 * 3))
    noise.save(source / "0.png")
    for number in range(16):
        (source / f"{number}.txt").write_text("a large noise")
        if number:
            (source / f"{number}.png").hardlink_to(source / "0.png")
    build(source, tmp_path / "kb")
    with serving(tmp_path / "kb") as service:
        answer = service.stub.Search(pb.SearchRequest(query="a noise", k=16, filters=pb.Filters(keep_duplicates=True)))
        assert len(answer.neighbors) == 16
        assert answer.ByteSize() > 60 * 1024 * 1024
        assert {neighbor.pair.image for neighbor in answer.neighbors} == {(source / "0.png").read_bytes()}


@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_build_never_looks_complete(source: Path, tmp_path: Path, existing: bool) -> None:
    kb = tmp_path / "kb"
    if existing:
        build(source, kb)
    before = (kb / "manifest.json").read_bytes() if existing else None
    long = tmp_path / "long"
    long.mkdir()
    Image.new("RGB", (64, 64)).save(long / "a.png")
    rows = (json.dumps({"image": "a.png", "text": "a fox", "id": number}) for number in range(1, 20_001))
    (long / "captions.jsonl").write_text("\n".join(rows))
    building = subprocess.Popen([PROGRAM, "build", long, kb], stderr=subprocess.DEVNULL)
    finished = set(kb.glob("data-*"))
    wait_until(lambda: bool(set(kb.glob("data-*/shards/*.tar")) - {shard for f in finished for shard in f.rglob("*")}))
    building.send_signal(signal.SIGKILL)
    assert building.wait() == -signal.SIGKILL
    assert len(list(kb.glob("data-*"))) == 1 + existing
    if existing:
        assert (kb / "manifest.json").read_bytes() == before
        found = subprocess.run([PROGRAM, "search", kb, "kea"], check=True, capture_output=True, text=True)
        assert "a kea" in found.stdout
    else:
        for command in (["describe"], ["search", "kea"], ["serve", "--grpc", "127.0.0.1:0"]):
            refused = subprocess.run(
                [PROGRAM, command[0], kb, *command[1:]], check=False, capture_output=True, text=True
            )
            assert refused.returncode == 2
            assert "is not a complete knowledge base" in refused.stderr
    build(source, kb)
    assert len(list(kb.glob("data-*"))) == 1


def test_a_base_that_serve_cannot_use_is_an_error_of_one_sentence(base: Path, service: Service) -> None:
    for options, message in (
        (["--grpc", service.address], "error: grpc: cannot listen on"),
        (["--grpc", "127.0.0.1:0", "--redis-url", "http://127.0.0.1"], "error: redis_url: Redis URL must specify"),
    ):
        refused = subprocess.run([PROGRAM, "serve", base, *options], check=False, capture_output=True, text=True)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
