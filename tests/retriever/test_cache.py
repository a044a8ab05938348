import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from reimagen_common.local_redis import LocalRedis
from reimagen_common.single_flight import SingleFlight
from reimagen_retriever.cache import AnswerCache
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[LocalRedis]:
    with LocalRedis() as local:
        yield local


@pytest.fixture
def cache(server: LocalRedis) -> Iterator[AnswerCache]:
    if server.process.poll() is not None:
        server.start()
    cache = AnswerCache(server.url, 100)
    yield cache
    cache.close()


def test_a_stored_value_is_returned(cache: AnswerCache) -> None:
    assert cache.get("missing") is None
    cache.put("key", b"\x00value\xff")
    assert cache.get("key") == b"\x00value\xff"
    assert cache.state() == "up"


def test_answers_do_not_expire_together(cache: AnswerCache, server: LocalRedis) -> None:
    for number in range(50):
        cache.put(f"expiring {number}", b"value")
    with redis.Redis.from_url(server.url) as client:
        left = [int(client.pttl(f"expiring {number}")) for number in range(50)]
    assert all(85_000 < milliseconds <= 110_000 for milliseconds in left)
    assert max(left) - min(left) > 2_000


def test_without_a_url_nothing_is_cached() -> None:
    cache = AnswerCache(None, 100)
    cache.put("key", b"value")
    assert cache.get("key") is None
    assert cache.state() == "off"
    cache.close()


def test_an_invalid_url_is_refused() -> None:
    with pytest.raises(ValueError, match="scheme"):
        AnswerCache("http://127.0.0.1", 100)


def test_a_killed_redis_is_logged_once_and_its_return_is_noticed(
    cache: AnswerCache, server: LocalRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache.put("key", b"value")
    server.process.kill()
    server.process.wait()
    for _ in range(100):
        assert cache.get("key") is None
        cache.put("key", b"value")
    assert cache.state() == "down"
    server.start()
    wait_until(lambda: cache.state() == "up")
    cache.put("key", b"new value")
    assert cache.get("key") == b"new value"
    assert [record.message for record in caplog.records] == [
        "Redis does not answer: searching without a cache",
        "Redis answers again: searches are cached",
    ]


def test_a_hanging_redis_costs_one_timeout(cache: AnswerCache, server: LocalRedis) -> None:
    cache.put("key", b"value")
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        found = [cache.get("key") for _ in range(50)]
        assert found == [None] * 50
        # Each would wait a tenth of a second for an answer.
        assert time.monotonic() - started < 4
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    wait_until(lambda: cache.get("key") == b"value")


class WatchedKey:
    """A key that counts its lookups, which shows when a caller has joined a computation."""

    def __init__(self) -> None:
        self.lookups = 0

    def __hash__(self) -> int:
        self.lookups += 1
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


def in_threads(callers: int, call: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    return threads


def test_concurrent_equal_calls_share_one_computation() -> None:
    flights = SingleFlight[int]()
    key = WatchedKey()
    landing = threading.Event()
    works: list[int] = []
    answers: list[int] = []

    def work() -> int:
        works.append(1)
        assert landing.wait(20)
        return 42

    threads = in_threads(10, lambda: answers.append(flights.do(key, work)))
    # The computing caller looks three times, each of the others once.
    wait_until(lambda: key.lookups == 12)
    landing.set()
    for thread in threads:
        thread.join()
    assert (works, answers) == ([1], [42] * 10)
    assert flights.do(key, lambda: 43) == 43


def test_concurrent_callers_share_a_failure_and_the_next_call_computes_again() -> None:
    flights = SingleFlight[int]()
    key = WatchedKey()
    landing = threading.Event()
    failures: list[str] = []

    def work() -> int:
        assert landing.wait(20)
        raise OSError("lost")

    def call() -> None:
        with pytest.raises(OSError, match="lost") as caught:
            flights.do(key, work)
        failures.append(str(caught.value))

    threads = in_threads(5, call)
    wait_until(lambda: key.lookups == 7)
    landing.set()
    for thread in threads:
        thread.join()
    assert failures == ["lost"] * 5
    assert flights.do(key, lambda: 1) == 1


def test_other_keys_do_not_wait() -> None:
    flights = SingleFlight[int]()
    assert flights.do("outer", lambda: flights.do("inner", lambda: 7)) == 7


def test_several_keys_are_computed_at_once_without_those_in_progress() -> None:
    flights = SingleFlight[str]()
    landing = threading.Event()
    works: list[list[str]] = []

    def work(keys: list[str]) -> list[str]:
        works.append(keys)
        landing.set()
        return [key.upper() for key in keys]

    first = threading.Thread(target=lambda: flights.do("slow", lambda: "SLOW" if landing.wait(20) else "late"))
    first.start()
    wait_until(lambda: "slow" in flights._flights)
    assert flights.do_all(["a", "slow", "b", "a"], work) == ["A", "SLOW", "B", "A"]
    first.join()
    assert works == [["a", "b"]]


def test_a_failure_of_several_keys_is_shared_by_all_of_them() -> None:
    flights = SingleFlight[int]()

    def fail(_: list[str]) -> list[int]:
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        flights.do_all(["a", "b"], fail)
    assert flights.do_all(["b", "a"], lambda keys: [len(keys)] * 2) == [2, 2]
