"""A store of jobs in Redis: the jobs, their events and their image files."""

import itertools
import json
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from reimagen.v1 import generation_pb2 as pb
from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_generator.jobs import redis_keys as keys
from reimagen_generator.jobs import transitions
from reimagen_generator.jobs.redis_change import Change
from reimagen_generator.jobs.store import JobPage, NewJob, Status, StoredJob, Use, new_id

# The largest answer is an image file.
_TIMEOUT_SECONDS: Final = 10.0
# Jobs that `uses` reads at once.
_USES: Final = 100

_logger = logging.getLogger(__name__)

# The client's methods are typed for its synchronous and its asynchronous form together.
_Client = Any


class RedisJobStore:
    """A store of jobs in Redis, which one process uses at a time: the last that opened it."""

    def __init__(self, url: str, *, retention_seconds: float) -> None:
        """Open the store, and queue the jobs again that were interrupted. A process that used it before is locked out.

        Args:
            url: The URL of the Redis.
            retention_seconds: Time for which ended jobs are kept.

        Raises:
            InvalidArgument: The URL is invalid, or the Redis does not answer, or it would evict jobs.
        """
        self._retention_seconds = retention_seconds
        # Transactions of one process would only make each other start anew.
        self._lock = threading.Lock()
        try:
            # A write whose answer is lost must not be made twice, so nothing is tried again.
            self._redis: _Client = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            self._check_persistence()
            self._epoch = str(self._redis.incr(keys.EPOCH)).encode()
            self._recover()
        except (ValueError, redis.RedisError, OSError, Unavailable) as error:
            raise InvalidArgument(f"cannot keep jobs in this Redis: {error}", field="jobs_redis_url") from error

    def add(self, new: NewJob, *, capacity: int) -> StoredJob:
        """Store a job durably and return it, or return the job that the owner added earlier with the same key."""
        message = transitions.new_message(new_id())
        job_id = message.id
        with self._transaction() as pipe:
            earlier = pipe.hget(keys.idempotency(new.owner), new.key.text) if new.key else None
            if earlier is not None:
                assert new.key is not None
                transitions.check_key(new.key, pipe.hget(keys.job(earlier.decode()), "digest").decode())
                job_id = earlier.decode()
            else:
                transitions.refuse_if_full(pipe.zcard(keys.QUEUED) + pipe.zcard(keys.RUNNING), capacity)
                number, request = pipe.incr(keys.NUMBER), json.dumps(new.request)
                fields = {"number": number, "owner": new.owner, "attempts": 0, "request": request}
                if new.key:
                    fields |= {"key": new.key.text, "digest": new.key.digest}
                pipe.multi()
                pipe.hset(keys.job(job_id), mapping=fields)
                for index, image in enumerate(new.references):
                    pipe.hset(keys.files(job_id), transitions.reference_name(index), image)
                pipe.zadd(keys.owned(new.owner), {job_id: number})
                if new.key:
                    pipe.hset(keys.idempotency(new.owner), new.key.text, job_id)
                Change(pipe, number, request, message, pb.JobEvent(status=message.status)).write(last=0)
        return self.get(job_id, new.owner)

    def get(self, job_id: str, owner: str) -> StoredJob:
        """Return a job, with its position in the queue."""
        with self._answering():
            return self._stored(job_id, self._fields(job_id, owner))

    def page(self, owner: str, *, limit: int, after: str | None, status: Status | None) -> JobPage:
        """Return the owner's jobs, newest first."""
        with self._answering():
            before = b"(" + self._fields(after, owner)[b"number"] if after else "+inf"
            found: list[StoredJob] = []
            while len(found) <= limit:
                ids = self._redis.zrange(
                    keys.owned(owner), before, "-inf", desc=True, byscore=True, offset=0, num=limit + 1, withscores=True
                )
                with self._redis.pipeline(transaction=False) as pipe:
                    for job_id, _ in ids:
                        pipe.hgetall(keys.job(job_id.decode()))
                    jobs = zip(ids, pipe.execute(), strict=True)
                stored = [self._stored(job_id.decode(), fields) for (job_id, _), fields in jobs if _is_there(fields)]
                found += [job for job in stored if status is None or job.status is status]
                if len(ids) <= limit:
                    break
                before = f"({ids[-1][1]:.0f}"
            return JobPage(found[:limit], has_more=len(found) > limit)

    def unfinished(self) -> int:
        """Return the number of unfinished jobs of all owners."""
        with self._answering():
            return int(self._redis.zcard(keys.QUEUED) + self._redis.zcard(keys.RUNNING))

    def oldest(self, *, excluding: Collection[str]) -> StoredJob | None:
        """Return the oldest queued job without some, by their ids."""
        with self._answering():
            ids = [one.decode() for one in self._redis.zrange(keys.QUEUED, 0, len(excluding))]
            job_id = next((one for one in ids if one not in excluding), None)
            return None if job_id is None else self._stored(job_id, self._redis.hgetall(keys.job(job_id)))

    def start(self, job_id: str) -> bool:
        """Set a queued job to running. Return whether it was queued."""
        with self._changing(job_id, Status.QUEUED) as change:
            if change is None:
                return False
            pipe, message = change.pipe, change.message
            change.event = transitions.start(message)
            pipe.hincrby(keys.job(job_id), "attempts", 1)
            return True

    def requeue(self, job_id: str) -> None:
        """Queue a running job again and forget its images."""
        with self._changing(job_id, Status.RUNNING) as change:
            if change is not None:
                change.forget_pairs()
                change.event = transitions.requeue(change.message)
                # Attempts count crashes. This is no crash.
                change.pipe.hincrby(keys.job(job_id), "attempts", -1)

    def references(self, job_id: str) -> list[bytes]:
        """Return the image files of a job's references."""
        with self._answering():
            count = len(json.loads(self._redis.hget(keys.job(job_id), "request")).get("references", ()))
            names = [transitions.reference_name(number) for number in range(count)]
            return list(self._redis.hmget(keys.files(job_id), names)) if names else []

    def add_event(self, job_id: str, event: pb.JobEvent) -> None:
        """Store an event of a running job."""
        with self._changing(job_id, Status.RUNNING) as change:
            if change is not None:
                transitions.add_event(change.message, event)
                change.event = event
                if event.WhichOneof("event") == "neighbors":
                    change.remember_pairs()

    def add_image(self, job_id: str, image: pb.GenerateEvent.Image) -> None:
        """Store a finished image of a running job, with its event."""
        with self._changing(job_id, Status.RUNNING) as change:
            if change is not None:
                change.event = transitions.add_image(change.message, image)
                change.pipe.hset(keys.files(job_id), transitions.image_name(image.index), image.image)

    def finish(
        self, job_id: str, status: Status, *, usage: pb.Usage | None = None, error: pb.JobError | None = None
    ) -> bool:
        """End an unfinished job. Return whether it was unfinished."""
        with self._changing(job_id, Status.QUEUED, Status.RUNNING) as change:
            if change is None:
                return False
            change.event = transitions.finish(
                change.message, status, retention_seconds=self._retention_seconds, usage=usage, error=error
            )
            return True

    def events(self, job_id: str, owner: str, *, after: int) -> list[pb.JobEvent]:
        """Return some events of a job after the one with the id `after`, in order."""
        with self._answering():
            self._fields(job_id, owner)
            found = self._redis.xrange(keys.events(job_id), min=f"({after}-0", count=transitions.EVENTS)
            return [pb.JobEvent.FromString(fields[b"event"]) for _, fields in found]

    def image(self, job_id: str, owner: str, index: int) -> pb.GenerateEvent.Image:
        """Return a finished image of a job with its file."""
        image = transitions.find_image(self.get(job_id, owner).message, index)
        with self._answering():
            file = self._redis.hget(keys.files(job_id), transitions.image_name(index))
        if file is None:
            raise transitions.expired()
        image.image = file
        return image

    def uses(self, pair_id: str, *, limit: int) -> list[Use]:
        """Return the jobs of all owners that are grounded on a pair, newest first."""
        with self._answering():
            found: list[Use] = []
            for start in itertools.count(step=_USES):
                ids = self._redis.zrange(keys.grounded(pair_id), start, start + _USES - 1, desc=True)
                with self._redis.pipeline(transaction=False) as pipe:
                    for job_id in ids:
                        pipe.hgetall(keys.job(job_id.decode()))
                    jobs = [
                        (fields[b"owner"].decode(), _message(fields)) for fields in pipe.execute() if _is_there(fields)
                    ]
                found += [transitions.use(owner, job) for owner, job in jobs if transitions.is_kept(job)]
                if len(ids) < _USES or len(found) >= limit:
                    break
            return found[:limit]

    def delete_expired(self) -> int:
        """Delete jobs that have expired, and return their number."""
        with self._transaction() as pipe:
            ids = [one.decode() for one in pipe.zrange(keys.ENDED, "-inf", time.time(), byscore=True)]
            jobs = {job_id: pipe.hgetall(keys.job(job_id)) for job_id in ids}
            pipe.multi()
            for job_id, fields in jobs.items():
                owner = fields[b"owner"].decode()
                Change(pipe, int(fields[b"number"]), fields[b"request"], _message(fields)).forget_pairs()
                pipe.delete(keys.job(job_id), keys.events(job_id), keys.files(job_id))
                pipe.zrem(keys.ENDED, job_id)
                pipe.zrem(keys.owned(owner), job_id)
                if b"key" in fields:
                    pipe.hdel(keys.idempotency(owner), fields[b"key"])
            return len(jobs)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _check_persistence(self) -> None:
        memory, persistence = self._redis.info("memory"), self._redis.info("persistence")
        policy = memory["maxmemory_policy"]
        if policy != "noeviction":
            raise InvalidArgument(
                f"this Redis evicts jobs when it is full; set its maxmemory-policy to noeviction instead of {policy}",
                field="jobs_redis_url",
            )
        if not persistence["aof_enabled"]:
            _logger.warning("jobs are lost when their Redis ends; set its appendonly to yes")

    def _recover(self) -> None:
        for job_id in [one.decode() for one in self._redis.zrange(keys.RUNNING, 0, -1)]:
            with self._changing(job_id, Status.RUNNING) as change:
                if change is not None:
                    change.forget_pairs()
                    change.event = transitions.requeue(change.message)
                    change.gap = transitions.GAP

    def _fields(self, job_id: str, owner: str) -> dict[bytes, bytes]:
        """Return the fields of a job.

        Raises:
            NotFound: The owner has no such job, or it has expired.
        """
        fields: dict[bytes, bytes] = self._redis.hgetall(keys.job(job_id))
        if not _is_there(fields) or fields[b"owner"].decode() != owner:
            raise transitions.not_found()
        return fields

    def _stored(self, job_id: str, fields: Mapping[bytes, bytes]) -> StoredJob:
        message = _message(fields)
        if message.status == Status.QUEUED.value:
            rank = self._redis.zrank(keys.QUEUED, job_id)
            message.position = 0 if rank is None else rank + 1
        return StoredJob(
            owner=fields[b"owner"].decode(),
            request=json.loads(fields[b"request"]),
            message=message,
            attempts=int(fields[b"attempts"]),
        )

    @contextmanager
    def _changing(self, job_id: str, *statuses: Status) -> Iterator[Change | None]:
        """Yield a job to change, in a transaction; None if it is in none of these states."""
        with self._transaction() as pipe:
            number, blob, last, request = pipe.hmget(keys.job(job_id), "number", "message", "last", "request")
            message = pb.Job.FromString(blob or b"")
            pipe.multi()
            if message.status not in [status.value for status in statuses]:
                yield None
                return
            change = Change(pipe, int(number), request, message)
            yield change
            change.write(last=int(last))

    @contextmanager
    def _transaction(self) -> Iterator[_Client]:
        """Yield a pipeline that reads at once until its `multi`, and then writes all or nothing at the end."""
        with self._answering(), self._lock, self._redis.pipeline() as pipe:
            pipe.watch(keys.EPOCH)
            if pipe.get(keys.EPOCH) != self._epoch:
                raise _locked_out()
            yield pipe
            try:
                pipe.execute()
            except redis.WatchError as error:
                raise _locked_out() from error

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            message = f"the Redis of jobs cannot be used: {error}"
            raise Unavailable(message, retry_after=transitions.RETRY_SECONDS) from error


def _locked_out() -> Unavailable:
    return Unavailable(
        "another process keeps jobs in this Redis now, or it was emptied; restart the service that should keep them",
        retry_after=transitions.RETRY_SECONDS,
    )


def _is_there(fields: Mapping[bytes, bytes]) -> bool:
    """Return whether the fields are of a job that has not expired."""
    expires = _message(fields).expires_at if fields else 0
    return bool(fields) and not 0 < expires <= time.time()


def _message(fields: Mapping[bytes, bytes]) -> pb.Job:
    return pb.Job.FromString(fields[b"message"])
