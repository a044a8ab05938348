"""What only the store of jobs in Redis does; test_store.py has the rest."""

import pytest
import redis

from reimagen_common.errors import InvalidArgument, NotFound, Unavailable
from reimagen_common.local_redis import LocalRedis
from reimagen_generator.jobs.redis import RedisJobStore
from reimagen_generator.jobs.store import NewJob, Status
from tests.job_stores import DAY, Restarts, image, new


def test_a_killed_redis_keeps_what_was_acknowledged(empty_redis: LocalRedis) -> None:
    restart = Restarts(empty_redis)
    store = restart()
    job, waiting = store.add(new(references=1), capacity=9), store.add(new(), capacity=9)
    store.start(job.id)
    store.add_image(job.id, image())
    empty_redis.process.kill()
    empty_redis.process.wait()
    with pytest.raises(Unavailable, match="the Redis of jobs cannot be used"):
        store.finish(job.id, Status.COMPLETED)
    empty_redis.start()
    assert store.finish(job.id, Status.COMPLETED)
    store = restart()
    assert store.get(job.id, "").status is Status.COMPLETED
    assert store.image(job.id, "", 0).image == b"file"
    assert store.references(job.id) == [b"image 0"]
    assert store.oldest(excluding=()) == store.get(waiting.id, "")
    restart.close()


def test_the_last_process_locks_out_the_one_before(empty_redis: LocalRedis) -> None:
    first = RedisJobStore(empty_redis.url, retention_seconds=DAY)
    job = first.add(new(), capacity=9)
    first.start(job.id)
    second = RedisJobStore(empty_redis.url, retention_seconds=DAY)
    with pytest.raises(Unavailable, match="another process keeps jobs in this Redis"):
        first.finish(job.id, Status.FAILED)
    assert second.get(job.id, "").status is Status.QUEUED
    assert second.start(job.id)
    first.close()
    second.close()


def test_a_full_redis_takes_no_part_of_a_job() -> None:
    with LocalRedis(maximum_megabytes=3, store=True) as server:
        store = RedisJobStore(server.url, retention_seconds=DAY)
        job = store.add(new(), capacity=9)
        large = NewJob("", {"prompt": "x", "references": [{"caption": "x"}]}, [bytes(4 * 2**20)])
        with pytest.raises(Unavailable, match="the Redis of jobs cannot be used"):
            store.add(large, capacity=9)
        assert store.unfinished() == 1
        assert store.page("", limit=9, after=None, status=None).jobs == [job]
        store.close()


def test_expired_jobs_leave_nothing(empty_redis: LocalRedis) -> None:
    store = RedisJobStore(empty_redis.url, retention_seconds=-1)
    job = store.add(new(references=1), capacity=9)
    store.finish(job.id, Status.CANCELLED)
    with pytest.raises(NotFound):
        store.get(job.id, "")
    assert store.delete_expired() == 1
    with redis.Redis.from_url(empty_redis.url) as client:
        assert {key.decode().rpartition(":")[2] for key in client.scan_iter()} == {"epoch", "number"}
    store.close()


def test_a_redis_that_would_lose_jobs_is_refused() -> None:
    with LocalRedis() as cache, pytest.raises(InvalidArgument, match="jobs_redis_url: this Redis evicts jobs"):
        RedisJobStore(cache.url, retention_seconds=DAY)
    for url in (cache.url, "http://127.0.0.1"):
        with pytest.raises(InvalidArgument, match="jobs_redis_url: cannot keep jobs in this Redis"):
            RedisJobStore(url, retention_seconds=DAY)
