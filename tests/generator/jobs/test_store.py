"""Both stores of jobs, in a folder and in Redis."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import InvalidArgument, NotFound, Overloaded, Unprocessable
from reimagen_generator.jobs.store import JobStore, Key, Status, parse_key
from tests.job_stores import Restart, grounded, image, new
from tests.waiting import wait_until


def test_jobs_are_taken_in_order_with_their_references(store: JobStore) -> None:
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


def test_another_owner_has_no_such_job(store: JobStore) -> None:
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


def test_pages_go_on_after_a_job(store: JobStore) -> None:
    jobs = [store.add(new(), capacity=300).id for _ in range(120)]
    done = set(jobs[:3])
    for job_id in done:
        store.finish(job_id, Status.CANCELLED)
    store.add(new("other"), capacity=300)
    pages, after = list[str](), None
    for more in (True, True, False):
        page = store.page("", limit=50, after=after, status=None)
        pages += [job.id for job in page.jobs]
        assert page.has_more is more
        after = pages[-1]
    assert pages == jobs[::-1]
    cancelled = store.page("", limit=2, after=None, status=Status.CANCELLED)
    assert ([job.id for job in cancelled.jobs], cancelled.has_more) == (jobs[2:0:-1], True)


def test_a_key_is_the_owners(store: JobStore) -> None:
    job = store.add(new("one", key=Key("k", "d")), capacity=1)
    assert store.add(new("one", key=Key("k", "d")), capacity=1).id == job.id
    with pytest.raises(Unprocessable):
        store.add(new("one", key=Key("k", "other")), capacity=1)
    assert store.add(new("other", key=Key("k", "other")), capacity=2).id != job.id


def test_requests_at_once_with_one_key_make_one_job(store: JobStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        jobs = threads.map(lambda _: store.add(new(references=1, key=Key("k", "d")), capacity=9), range(32))
    assert len({job.id for job in jobs}) == 1
    assert store.unfinished() == 1


def test_the_number_of_unfinished_jobs_is_limited(store: JobStore) -> None:
    job = store.add(new(), capacity=1)
    with pytest.raises(Overloaded):
        store.add(new("other"), capacity=1)
    assert store.finish(job.id, Status.CANCELLED)
    assert not store.finish(job.id, Status.COMPLETED)
    assert store.get(job.id, "").status is Status.CANCELLED
    store.add(new(), capacity=1)


def test_a_crash_queues_running_jobs_again(restart: Restart) -> None:
    store = restart()
    job = store.add(new(references=1), capacity=9)
    store.start(job.id)
    store.add_image(job.id, image())
    seen = store.events(job.id, "", after=0)[-1].id
    store = restart()
    again = store.get(job.id, "")
    assert (again.status, len(again.message.images), again.attempts) == (Status.QUEUED, 0, 1)
    (event,) = store.events(job.id, "", after=seen)
    assert event.status == Status.QUEUED.value
    assert store.references(job.id) == [b"image 0"]


def test_events_and_images_become_part_of_the_job(store: JobStore) -> None:
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


def test_the_uses_of_a_pair_are_the_jobs_of_all_owners(restart: Restart) -> None:
    store = restart()
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
    store = restart()
    # The second job was interrupted: its image is gone, and it will search again.
    assert uses("fox") == both[1:]


def test_an_interrupted_job_uses_no_pair(store: JobStore) -> None:
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


def test_finished_jobs_expire(restart: Restart) -> None:
    store = restart(retention_seconds=0.001)
    job, waiting = store.add(new(references=1), capacity=9), store.add(new(), capacity=9)
    store.finish(job.id, Status.CANCELLED)
    wait_until(store.delete_expired)
    with pytest.raises(NotFound):
        store.get(job.id, "")
    assert store.page("", limit=9, after=None, status=None).jobs == [store.get(waiting.id, "")]
    assert store.delete_expired() == 0


def test_an_expired_job_uses_no_pair(restart: Restart) -> None:
    store = restart(retention_seconds=0.001)
    store.finish(grounded(store, "", ["fox"]), Status.COMPLETED)
    wait_until(store.delete_expired)
    assert store.uses("fox", limit=9) == []


@pytest.mark.parametrize(
    ("text", "key"), [('"a b"', None), ('""', None), ('"ab"', "ab"), (" ab ", "ab"), ('"', '"'), ("é", None)]
)
def test_keys(text: str, key: str | None) -> None:
    if key is None:
        with pytest.raises(InvalidArgument, match="visible ASCII"):
            parse_key(text, field="key")
    else:
        assert parse_key(text, field="key") == key
