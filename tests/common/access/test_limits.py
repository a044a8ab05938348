"""Limits of keys: counting in this process and in a real Redis, alone and in front of real servers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import redis
from fastapi import FastAPI
from httpx import Client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import generation_pb2_grpc
from reimagen_common.access import limits
from reimagen_common.access.caller import ANONYMOUS
from reimagen_common.access.guard import Guard
from reimagen_common.access.http import add_key_check
from reimagen_common.access.key_file import KeyFile, add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.limits import IMAGES, REQUESTS, Counters, LocalCounters, take
from reimagen_common.access.redis_counters import RedisCounters
from reimagen_common.access.rights import OPEN, Right
from reimagen_common.access.settings import AccessSettings
from reimagen_common.errors import InvalidArgument, LimitExceeded, QuotaExceeded, from_rpc_error
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.local_redis import LocalRedis

SECONDS = 20
HOUR = 3_600
# A moment in the middle of a minute: 40 seconds of it are left.
NOON = 20_000 * 86_400 + HOUR * 12 + 20.0

RPCS = ("Generate", "CutOut", "Describe", "CreateJob", "GetJob", "ListJobs", "WatchJob", "CancelJob")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[LocalRedis]:
    with LocalRedis() as local:
        yield local


@pytest.fixture(params=["local", "redis"])
def counters(request: pytest.FixtureRequest, redis_server: LocalRedis) -> Counters:
    return LocalCounters() if request.param == "local" else RedisCounters(redis_server.url)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that windows go by, in `clock.now`."""
    clock = SimpleNamespace(now=NOON)
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=lambda: clock.now, monotonic=time.monotonic))
    return clock


def unique() -> str:
    return make_key("key", frozenset(Right))[1].id


def test_a_refused_request_uses_nothing(counters: Counters) -> None:
    name = unique()
    assert counters.take(name, 3, 5, HOUR)
    assert not counters.take(name, 3, 5, HOUR)
    assert counters.take(name, 2, 5, HOUR)
    assert not counters.take(name, 1, 5, HOUR)
    assert counters.take(unique(), 5, 5, HOUR)


def test_concurrent_requests_do_not_exceed_the_limit_together(counters: Counters) -> None:
    name = unique()
    with ThreadPoolExecutor(16) as threads:
        taken = list(threads.map(lambda _: counters.take(name, 1, 20, HOUR), range(100)))
    assert sum(taken) == 20


def test_processes_share_what_redis_counts(redis_server: LocalRedis) -> None:
    one, two, name = RedisCounters(redis_server.url), RedisCounters(redis_server.url), unique()
    assert one.take(name, 2, 3, HOUR)
    assert two.take(name, 1, 3, HOUR)
    assert not one.take(name, 1, 3, HOUR)


def test_counts_go_on_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    with LocalRedis() as local:
        counters, name = RedisCounters(local.url), unique()
        assert counters.take(name, 4, 6, HOUR)
        local.stop()
        # What Redis had counted still counts.
        assert [counters.take(name, 1, 6, HOUR) for _ in range(3)] == [True, True, False]
        assert counters.take(unique(), 1, 6, HOUR)
        assert [record.message for record in caplog.records] == [
            "Redis does not answer: each process counts limits alone"
        ]


def test_a_redis_that_refuses_is_as_good_as_none() -> None:
    with LocalRedis() as local:
        client = RedisCounters(local.url)
        with redis.Redis.from_url(local.url) as administrator:
            administrator.config_set("maxmemory-policy", "noeviction")
            administrator.config_set("maxmemory", 1)
        name = unique()
        assert [client.take(name, 1, 2, HOUR) for _ in range(3)] == [True, True, False]


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(1, 20))
def test_the_sum_of_what_is_taken_never_exceeds_the_limit(costs: list[int], limit: int) -> None:
    counters = LocalCounters()
    used = 0
    for cost in costs:
        fits = used + cost <= limit
        assert counters.take("key", cost, limit, HOUR) is fits
        used += cost if fits else 0


def test_windows_are_those_of_the_clock(clock: SimpleNamespace) -> None:
    counters, key = LocalCounters(), unique()
    take(counters, REQUESTS, key, 2, 2)
    with pytest.raises(LimitExceeded, match=f"the API key {key} has used up its 2 requests a minute") as caught:
        take(counters, REQUESTS, key, 1, 2)
    assert caught.value.retry_after == 40
    clock.now += 40
    take(counters, REQUESTS, key, 2, 2)
    take(counters, IMAGES, key, 3, 3)
    with pytest.raises(QuotaExceeded) as of_images:
        take(counters, IMAGES, key, 1, 3)
    assert of_images.value.retry_after == 12 * HOUR - 60
    clock.now += 12 * HOUR
    take(counters, IMAGES, key, 3, 3)
    with pytest.raises(QuotaExceeded, match="may have 3 images a day, and the request asks for 4") as too_many:
        take(counters, IMAGES, key, 4, 3)
    assert too_many.value.retry_after is None


def test_keys_have_their_own_limits(tmp_path: Path, clock: SimpleNamespace) -> None:
    file = tmp_path / "keys.json"
    key, stored = make_key("limited", frozenset(Right), requests_per_minute=1, images_per_day=2)
    free, unlimited = make_key("free", frozenset(Right))
    for each in (stored, unlimited):
        add_key(file, each)
    guard = Guard(KeyFile(file))
    limited, anyone = guard.identify([f"Bearer {key}"]), guard.identify([f"Bearer {free}"])
    assert (guard.has_rate_limit(limited), guard.has_rate_limit(anyone)) == (True, False)
    guard.take_request(limited)
    guard.take_images(limited, 2)
    with pytest.raises(LimitExceeded):
        guard.take_request(limited)
    with pytest.raises(QuotaExceeded):
        guard.take_images(limited, 1)
    for caller in (anyone, ANONYMOUS):
        for _ in range(5):
            guard.take_request(caller)
            guard.take_images(caller, 10)
    assert not Guard().has_rate_limit(ANONYMOUS)


class Generation(generation_pb2_grpc.GenerationServicer):
    def Generate(self, request: Any, context: Any) -> Iterator[pb.GenerateEvent]:
        yield pb.GenerateEvent()

    def Describe(self, request: Any, context: Any) -> pb.DescribeCascadeResponse:
        return pb.DescribeCascadeResponse()


def refusals(**labels: str) -> float:
    return REGISTRY.get_sample_value("reimagen_access_refusals_total", labels) or 0.0


def test_servers_refuse_and_say_when_to_come_back(
    tmp_path: Path, redis_server: LocalRedis, clock: SimpleNamespace
) -> None:
    file = tmp_path / "keys.json"
    key, stored = make_key("limited", frozenset({Right.READ}), requests_per_minute=2)
    add_key(file, stored)
    guard = AccessSettings(keys=file).open_guard(redis_server.url)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    register_error_handlers(app)
    for path in ("/read", "/open"):
        app.get(path)(lambda: 1)
    add_key_check(app, guard, {"GET /read": Right.READ, "GET /open": OPEN})
    listening = listen("127.0.0.1:0")
    http = HttpServer(app, listening)
    calls = {f"reimagen.v1.Generation/{name}": Right.READ for name in RPCS}
    rpc = GrpcServer(address="127.0.0.1:0", workers=2, max_message_bytes=1024, guard=guard, rights=calls)
    rpc.add(
        lambda server: generation_pb2_grpc.add_GenerationServicer_to_server(Generation(), server),  # type: ignore[abstract]  # only what is called
        "reimagen.v1.Generation",
    )
    http.start()
    rpc.start()
    counted = [{"face": face, "code": "rate_limit_exceeded"} for face in ("http", "grpc")]
    before = [refusals(**labels) for labels in counted]
    overloaded = REGISTRY.get_sample_value("reimagen_overload_refusals_total", {"face": "http"})
    header = {"Authorization": f"Bearer {key}"}
    metadata = (("authorization", f"Bearer {key}"),)
    try:
        with (
            Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=SECONDS) as rest,
            grpc.insecure_channel(f"127.0.0.1:{rpc.port}") as channel,
        ):
            stub = generation_pb2_grpc.GenerationStub(channel)
            assert rest.get("/read", headers=header).status_code == 200
            # Both servers count together, and streams are counted too.
            assert len(list(stub.Generate(pb.GenerateRequest(), timeout=SECONDS, metadata=metadata))) == 1
            answer = rest.get("/read", headers=header)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "40")
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            with pytest.raises(grpc.RpcError) as caught:
                stub.Describe(pb.DescribeCascadeRequest(), timeout=SECONDS, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert from_rpc_error(caught.value).retry_after == 40
            with pytest.raises(grpc.RpcError):
                list(stub.Generate(pb.GenerateRequest(), timeout=SECONDS, metadata=metadata))
            assert rest.get("/open", headers=header).status_code == 200
            clock.now += 40
            assert rest.get("/read", headers=header).status_code == 200
    finally:
        rpc.stop(0)
        http.stop()
    assert [refusals(**labels) for labels in counted] == [before[0] + 1, before[1] + 2]
    # More replicas would not help, so it is no overload.
    assert REGISTRY.get_sample_value("reimagen_overload_refusals_total", {"face": "http"}) == overloaded


def test_a_wrong_redis_url_is_refused_at_the_start(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", make_key("any", frozenset(Right))[1])
    with pytest.raises(InvalidArgument, match=r"^redis_url: "):
        AccessSettings(keys=tmp_path / "keys").open_guard("http://redis:6379")
