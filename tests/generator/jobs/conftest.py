"""Stores of jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from reimagen_common.local_redis import LocalRedis
from reimagen_generator.jobs.store import JobStore
from tests.job_stores import Restart, Restarts


@pytest.fixture(scope="module")
def redis_server() -> Iterator[LocalRedis]:
    with LocalRedis(store=True) as server:
        yield server


@pytest.fixture
def empty_redis(redis_server: LocalRedis) -> LocalRedis:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server


@pytest.fixture(params=["sqlite", "redis"])
def restart(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restart]:
    """Return a function that opens the store, as a service does that is started again."""
    restarts = Restarts(tmp_path if request.param == "sqlite" else request.getfixturevalue("empty_redis"))
    yield restarts
    restarts.close()


@pytest.fixture
def store(restart: Restart) -> JobStore:
    return restart()
