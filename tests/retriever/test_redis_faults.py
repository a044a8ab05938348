"""The whole service while its Redis is killed, hangs, restarts or is full: searches continue, and health says why."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.local_redis import LocalRedis
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings
from tests.waiting import wait_until

SECONDS = 60
# As in reimagen_retriever.cache.
TIMEOUT_SECONDS, PERIOD_SECONDS = 0.1, 1.0
CLIENTS = 200


@dataclass
class Served:
    """A running service."""

    address: str
    rest: httpx.Client
    stub: RetrievalStub

    def search(self, query: str) -> pb.SearchResponse:
        answer = self.stub.Search(pb.SearchRequest(query=query), timeout=SECONDS)
        assert [neighbor.pair.id for neighbor in answer.neighbors] == ["kea"]
        return answer

    def metrics(self) -> dict[str, float]:
        """Return the service's metrics of Redis and the index, by short names."""
        text = self.rest.get("/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {
            "_".join([sample.name.removeprefix("reimagen_retriever_"), *sample.labels.values()]): sample.value
            for sample in samples
            if sample.name.startswith("reimagen_retriever_")
        }

    def since(self, before: dict[str, float], name: str) -> float:
        return self.metrics().get(name, 0.0) - before.get(name, 0.0)


@pytest.fixture
def served(base: Callable[..., Path]) -> Iterator[Callable[[str], Served]]:
    """Return a function that serves a base of one kea with a Redis at a URL."""
    running: list[Callable[[], None]] = []

    def serve(redis_url: str) -> Served:
        settings = Settings(
            knowledge_base=base({"kea": "a kea"}),
            grpc="127.0.0.1:0",
            http="127.0.0.1:0",
            redis_url=redis_url,
            concurrent_calls=CLIENTS // 5,  # Four times as many may wait.
        )
        service = RetrieverServer(settings)
        service.start()
        channel = grpc.insecure_channel(service.addresses["grpc"])
        rest = httpx.Client(base_url=f"http://{service.addresses['http']}", timeout=SECONDS)
        running.extend([rest.close, channel.close, lambda: service.stop(0)])
        return Served(service.addresses["grpc"], rest, RetrievalStub(channel))

    yield serve
    for end in running:
        end()


@contextmanager
def hung() -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a Redis that accepts and never answers; return its URL, and a count of its connections."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=CLIENTS) as listening:

        def accept() -> None:
            while True:
                try:
                    accepted.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0", lambda: len(accepted)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in accepted:
        connection.close()


def test_a_hanging_redis_costs_one_timeout_per_period(served: Callable[[str], Served]) -> None:
    with hung() as (url, connections):
        service = served(url)
        # The service connected to Redis when it opened.
        assert connections() == 1
        assert service.metrics()["cache_breaker_open"] == 1
        before, started = service.metrics(), time.monotonic()
        searches = 0
        while time.monotonic() < started + 2.5 * PERIOD_SECONDS:
            with ThreadPoolExecutor(8) as pool:
                for answer in pool.map(service.search, [f"kea {searches + number}" for number in range(8)]):
                    assert not answer.cached
            searches += 8
        periods = 1 + (time.monotonic() - started) / PERIOD_SECONDS
        assert 1 <= service.since(before, "cache_errors_total_unanswered") <= periods
        assert connections() - 1 <= periods
        assert service.since(before, "cache_lookups_total_skipped") >= searches - periods
        assert service.since(before, "index_searches_total") == searches
        health = service.rest.get("/readyz")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "Redis does not answer" in health.json()["reasons"][0]


def test_a_redis_that_hangs_during_a_search_costs_it_one_timeout(served: Callable[[str], Served]) -> None:
    with LocalRedis() as server:
        service = served(server.url)
        service.search("kea")
        assert service.search("kea").cached
        before = service.metrics()
        with redis.Redis.from_url(server.url) as client:
            # Redis is stopped, so all its clients wait.
            sleeping = threading.Thread(target=lambda: client.execute_command("DEBUG", "SLEEP", "1.5"))
            sleeping.start()
            wait_until(lambda: not service.search("kea").cached)
            assert service.since(before, "cache_errors_total_unanswered") >= 1
            assert service.metrics()["cache_breaker_open"] == 1
            sleeping.join()
        wait_until(lambda: service.search("kea").cached)
        assert service.metrics()["cache_breaker_open"] == 0


def test_a_killed_redis_is_skipped_and_used_after_its_restart(served: Callable[[str], Served]) -> None:
    with LocalRedis() as server:
        service = served(server.url)
        service.search("kea")
        assert service.search("kea").cached
        server.process.kill()
        server.process.wait()
        assert not any(service.search("kea").cached for _ in range(20))
        assert service.metrics()["cache_breaker_open"] == 1
        server.start()
        wait_until(lambda: service.search("kea").cached)
        assert service.metrics()["cache_breaker_open"] == 0
        assert service.rest.get("/healthz").json() == {"status": "ready", "reasons": []}


def test_a_full_redis_is_still_read(served: Callable[[str], Served]) -> None:
    with LocalRedis() as server, redis.Redis.from_url(server.url) as client:
        service = served(server.url)
        service.search("kea before")
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        before = service.metrics()
        for _ in range(5):
            assert service.search("kea before").cached
            assert not service.search("kea after").cached
        assert service.since(before, "cache_errors_total_refused") == 5
        assert service.since(before, "cache_lookups_total_hit") == 5
        assert service.metrics()["cache_breaker_open"] == 0
        health = service.rest.get("/readyz")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "maxmemory" in health.json()["reasons"][0]
        client.config_set("maxmemory", "0")
        service.search("kea after")
        assert service.search("kea after").cached
        assert service.rest.get("/healthz").json() == {"status": "ready", "reasons": []}


def test_concurrent_equal_queries_cause_one_search(served: Callable[[str], Served]) -> None:
    with LocalRedis() as server:
        service = served(server.url)
        before = service.metrics()
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(service.address, options=options) for _ in range(CLIENTS)]
        try:
            for ready in [grpc.channel_ready_future(channel) for channel in channels]:
                ready.result(SECONDS)
            request = pb.SearchRequest(query="the kea that all want")
            calls = [RetrievalStub(channel).Search.future(request, timeout=SECONDS) for channel in channels]
            answers = [call.result() for call in calls]
        finally:
            for channel in channels:
                channel.close()
        assert len(answers) == CLIENTS
        assert {answer.neighbors[0].pair.id for answer in answers} == {"kea"}
        assert service.since(before, "index_searches_total") == 1
