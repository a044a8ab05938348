"""The store of jobs in a folder."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import InvalidArgument, NotFound, Overloaded, Unavailable, Unprocessable
from reimagen_generator.jobs.sqlite import SqliteJobStore
from reimagen_generator.jobs.store import Key, NewJob, Status, parse_key
from tests.waiting import wait_until

DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteJobStore]:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    yield store
    store.close()


def new(owner: str = "", *, references: int = 0, key: Key | None = None) -> NewJob:
    request = {"prompt": "x", "references": [{"caption": str(number)} for number in range(references)]}
    return NewJob(owner, request, [f"image {number}".encode() for number in range(references)], key)


def image(index: int = 0) -> pb.GenerateEvent.Image:
    return pb.GenerateEvent.Image(index=index, seed=7, image=b"file", media_type="image/png")


def test_what_is_added_is_synced(store: SqliteJobStore, tmp_path: Path) -> None:
    store.add(new(), capacity=1)
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sqlite3.connect(tmp_path / "jobs.sqlite3").execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_jobs_are_taken_in_order_with_their_references(store: SqliteJobStore) -> None:
    first, second = store.add(new(references=2), capacity=9), store.add(new(), capacity=9)
    assert (first.message.position, second.message.position) == (1, 2)
    assert store.oldest(excluding=()) == first
    assert store.oldest(excluding=(first.id,)) == second
    assert store.oldest(excluding=(first.id, second.id)) is None
    assert store.start(first.id)
    assert not store.start(first.id)
    started = store.get(first.id, "")
    assert (started.status, started.attempts, started.message.position) == (Status.RUNNING, 1, 0)
    assert store.references(first.id) == [b"image 0", b"image 1"]
    assert store.get(second.id, "").message.position == 1
    assert store.oldest(excluding=()) == store.get(second.id, "")
    store.requeue(first.id)
    assert (store.get(first.id, "").status, store.get(first.id, "").attempts) == (Status.QUEUED, 0)


def test_another_owner_has_no_such_job(store: SqliteJobStore) -> None:
    job = store.add(new("one"), capacity=9)
    for read in (
        lambda: store.get(job.id, "other"),
        lambda: store.events(job.id, "other", after=0),
        lambda: store.image(job.id, "other", 0),
        lambda: store.page("other", limit=1, after=job.id, status=None),
    ):
        with pytest.raises(NotFound):
            read()
    assert store.page("other", limit=9, after=None, status=None).jobs == []
    assert [found.id for found in store.page("one", limit=9, after=None, status=None).jobs] == [job.id]


def test_a_key_is_the_owners(store: SqliteJobStore) -> None:
    job = store.add(new("one", key=Key("k", "d")), capacity=1)
    assert store.add(new("one", key=Key("k", "d")), capacity=1).id == job.id
    with pytest.raises(Unprocessable):
        store.add(new("one", key=Key("k", "other")), capacity=1)
    assert store.add(new("other", key=Key("k", "other")), capacity=2).id != job.id


def test_requests_at_once_with_one_key_make_one_job(store: SqliteJobStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        jobs = threads.map(lambda _: store.add(new(references=1, key=Key("k", "d")), capacity=9), range(32))
    assert len({job.id for job in jobs}) == 1
    assert store.unfinished() == 1


def test_the_number_of_unfinished_jobs_is_limited(store: SqliteJobStore) -> None:
    job = store.add(new(), capacity=1)
    with pytest.raises(Overloaded):
        store.add(new("other"), capacity=1)
    assert store.finish(job.id, Status.CANCELLED)
    assert not store.finish(job.id, Status.COMPLETED)
    assert store.get(job.id, "").status is Status.CANCELLED
    store.add(new(), capacity=1)


def test_a_crash_queues_running_jobs_again(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    job = store.add(new(references=1), capacity=9)
    store.start(job.id)
    store.add_image(job.id, image())
    seen = store.events(job.id, "", after=0)[-1].id
    store.close()
    (tmp_path / "files" / "job_of_a_crash").mkdir()
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    again = store.get(job.id, "")
    assert (again.status, len(again.message.images), again.attempts) == (Status.QUEUED, 0, 1)
    (event,) = store.events(job.id, "", after=seen)
    assert event.status == Status.QUEUED.value
    assert store.references(job.id) == [b"image 0"]
    assert not (tmp_path / "files" / "job_of_a_crash").exists()
    store.close()


def test_events_and_images_become_part_of_the_job(store: SqliteJobStore) -> None:
    job = store.add(new(), capacity=9)
    store.add_event(job.id, pb.JobEvent(progress=pb.GenerateEvent.Progress(step=1)))  # It does not run yet.
    store.start(job.id)
    store.add_event(job.id, pb.JobEvent(progress=pb.GenerateEvent.Progress(step=1, preview=b"png")))
    store.add_image(job.id, image())
    store.finish(job.id, Status.COMPLETED, usage=pb.Usage(steps=1))
    events = store.events(job.id, "", after=0)
    assert [event.id for event in events] == [1, 2, 3, 4, 5]
    assert events[2].progress.preview == b"png"
    message = store.get(job.id, "").message
    assert (message.progress.step, message.progress.preview, message.usage.steps) == (1, b"", 1)
    assert [drawn.image for drawn in message.images] == [b""]
    assert store.image(job.id, "", 0).image == b"file"


def grounded(store: SqliteJobStore, owner: str, pairs: list[str], weights: tuple[float, ...] = ()) -> str:
    """Return the id of a running job that is grounded on pairs, with one finished image."""
    request = {"prompt": "x", "references": [{"pair_id": "p", "weight": weight} for weight in weights]}
    job = store.add(NewJob(owner, request, [b""] * len(weights)), capacity=99)
    store.start(job.id)
    found = [retrieval_pb2.Neighbor(pair=retrieval_pb2.Pair(id=pair_id)) for pair_id in pairs]
    store.add_event(job.id, pb.JobEvent(neighbors=pb.GenerateEvent.Neighbors(neighbors=found)))
    store.add_image(job.id, image())
    return job.id


def test_the_uses_of_a_pair_are_the_jobs_of_all_owners(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    first = grounded(store, "one", ["fox", "kea"])
    second = grounded(store, "other", ["kea", "", "fox", "kea"], weights=(0, 1, 2, 1))
    grounded(store, "one", ["fox", "kea"], weights=(0, 0))
    store.finish(first, Status.COMPLETED)

    def uses(pair_id: str) -> list[tuple[str, str, Status, int]]:
        return [(use.job_id, use.owner, use.status, use.images) for use in store.uses(pair_id, limit=9)]

    both = [(second, "other", Status.RUNNING, 1), (first, "one", Status.COMPLETED, 1)]
    assert uses("fox") == uses("kea") == both
    assert [use.job_id for use in store.uses("fox", limit=1)] == [second]
    assert uses("") == uses("f") == []
    # As version 1 left it.
    store._database.executescript("DROP TABLE grounded; PRAGMA user_version = 1")
    store.close()
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    # The second job was interrupted: its image is gone, and it will search again.
    assert uses("fox") == both[1:]
    store.close()


def test_an_interrupted_job_uses_no_pair(store: SqliteJobStore) -> None:
    job_id = grounded(store, "", ["fox"])
    store.requeue(job_id)
    assert store.uses("fox", limit=9) == []
    without_image = store.add(new(), capacity=9)
    store.start(without_image.id)
    neighbors = pb.GenerateEvent.Neighbors(neighbors=[retrieval_pb2.Neighbor(pair=retrieval_pb2.Pair(id="fox"))])
    store.add_event(without_image.id, pb.JobEvent(neighbors=neighbors))
    assert [use.images for use in store.uses("fox", limit=9)] == [0]
    store.finish(without_image.id, Status.FAILED)
    assert store.uses("fox", limit=9) == []


def test_finished_jobs_expire_with_their_files(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=0.001)
    job, waiting = store.add(new(references=1), capacity=9), store.add(new(), capacity=9)
    store.finish(job.id, Status.CANCELLED)
    wait_until(store.delete_expired)
    with pytest.raises(NotFound):
        store.get(job.id, "")
    assert not (tmp_path / "files" / job.id).exists()
    assert store.get(waiting.id, "").status is Status.QUEUED
    store.close()


def test_a_folder_has_one_user(store: SqliteJobStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="another process uses it"):
        SqliteJobStore(tmp_path, retention_seconds=DAY)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match=r"^jobs: cannot keep jobs in "):
        SqliteJobStore(tmp_path / "file", retention_seconds=DAY)
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(InvalidArgument, match=r"^jobs: cannot keep jobs in "):
        SqliteJobStore(tmp_path, retention_seconds=DAY)


def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    store.close()
    with pytest.raises(Unavailable, match="folder of jobs"):
        store.add(new(), capacity=9)


@pytest.mark.parametrize(("text", "key"), [('"a b"', None), ('"ab"', "ab"), (" ab ", "ab"), ('"', '"'), ("é", None)])
def test_keys(text: str, key: str | None) -> None:
    if key is None:
        with pytest.raises(InvalidArgument, match="visible ASCII"):
            parse_key(text, field="key")
    else:
        assert parse_key(text, field="key") == key
