"""New jobs, and both stores of jobs, which a test opens again as a restarted service does."""

from pathlib import Path
from typing import Protocol

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_common.local_redis import LocalRedis
from reimagen_generator.jobs.redis import RedisJobStore
from reimagen_generator.jobs.sqlite import SqliteJobStore
from reimagen_generator.jobs.store import JobStore, Key, NewJob

DAY = 86_400.0


class Restart(Protocol):
    def __call__(self, *, retention_seconds: float = DAY) -> JobStore: ...


class Restarts:
    """Opens one store again and again, each time after the last one was closed."""

    def __init__(self, place: Path | LocalRedis) -> None:
        self._place = place
        self._open: JobStore | None = None

    def __call__(self, *, retention_seconds: float = DAY) -> JobStore:
        self.close()
        if isinstance(self._place, Path):
            self._open = SqliteJobStore(self._place, retention_seconds=retention_seconds)
        else:
            self._open = RedisJobStore(self._place.url, retention_seconds=retention_seconds)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()


def new(owner: str = "", *, references: int = 0, key: Key | None = None) -> NewJob:
    request = {"prompt": "x", "references": [{"caption": str(number)} for number in range(references)]}
    return NewJob(owner, request, [f"image {number}".encode() for number in range(references)], key)


def image(index: int = 0) -> pb.GenerateEvent.Image:
    return pb.GenerateEvent.Image(index=index, seed=7, image=b"file", media_type="image/png")


def grounded(store: JobStore, owner: str, pairs: list[str], weights: tuple[float, ...] = ()) -> str:
    """Return the id of a running job that is grounded on pairs, with one finished image."""
    request = {"prompt": "x", "references": [{"pair_id": "p", "weight": weight} for weight in weights]}
    job = store.add(NewJob(owner, request, [b""] * len(weights)), capacity=99)
    store.start(job.id)
    found = [retrieval_pb2.Neighbor(pair=retrieval_pb2.Pair(id=pair_id)) for pair_id in pairs]
    store.add_event(job.id, pb.JobEvent(neighbors=pb.GenerateEvent.Neighbors(neighbors=found)))
    store.add_image(job.id, image())
    return job.id
