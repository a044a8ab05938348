"""Writes through the service: visible to it at once, to other processes within a second, without stale caches."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument, NotFound, Unavailable
from reimagen_common.local_redis import LocalRedis
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.folder_lock import Holder, locked
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.live.queue import WriteQueue, _Request
from reimagen_retriever.live.writer import Change, LiveWriter, Outcome, Outdated, Put, Remove
from reimagen_retriever.results import Added
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService
from tests.waiting import wait_until

MakeBase = Callable[..., Path]
MakeImage = Callable[..., bytes]
SECONDS = 60


@pytest.fixture(scope="module")
def redis_server() -> Iterator[LocalRedis]:
    with LocalRedis() as server:
        yield server


@pytest.fixture
def opened(redis_server: LocalRedis) -> Iterator[Callable[[Path], RetrievalService]]:
    retrievers: list[RetrievalService] = []

    def make(folder: Path) -> RetrievalService:
        retriever = RetrievalService(folder, AnswerCache(redis_server.url, 100), relevance="entity")
        retriever.open("127.0.0.1:7")
        retrievers.append(retriever)
        return retriever

    yield make
    for retriever in retrievers:
        retriever.close()


Opened = Callable[[Path], RetrievalService]


def ids(retriever: RetrievalService, query: str, k: int = 16) -> list[str]:
    return [found.pair.id for found in retriever.search(Search(query, k)).neighbors]


def test_acknowledged_pairs_are_found_and_removed_ones_are_not(
    base: MakeBase, opened: Opened, make_image: MakeImage
) -> None:
    serving = opened(base({"a": "a fox"}))
    before = serving.search(Search("a kea"))
    assert serving.search(Search("a kea")).cached
    image = make_image("teal")
    added = serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", image, "me", "MIT")])
    assert (added.added, added.updated, added.unchanged, added.rejected_count) == (1, 0, 0, 0)
    answer = serving.search(Search("a kea"))
    assert not answer.cached
    assert answer.revision == added.revision != before.revision
    (found,) = answer.neighbors
    assert (found.pair.id, found.pair.source, found.pair.license, found.image) == ("k", "me", "MIT", image)
    assert serving.describe().manifest.licenses == {"": 1, "MIT": 1}
    updated = serving.add_pairs([SourcePair("pairs[0]", "k", "a hotel", image)])
    assert (updated.added, updated.updated) == (0, 1)
    assert (ids(serving, "a kea"), ids(serving, "a hotel")) == ([], ["k"])
    assert serving.get_pair("k").pair.caption == "a hotel"
    deleted = serving.delete_pairs(["k", "nobody", "k"])
    assert (deleted.removed, deleted.unknown) == (1, ["nobody"])
    assert serving.search(Search("a hotel")).revision == deleted.revision
    assert ids(serving, "a hotel") == []
    with pytest.raises(NotFound):
        serving.get_pair("k")


def test_rejections_are_reported_with_locations_and_the_rest_is_added(
    base: MakeBase, opened: Opened, make_image: MakeImage
) -> None:
    serving = opened(base({"a": "a fox"}))
    image = make_image()
    added = serving.add_pairs(
        [
            SourcePair("pairs[0]", "", "a kea", image),
            SourcePair("pairs[1]", "b", "\x00", image),
            SourcePair("pairs[2]", "c", "a kea", image[:50]),
            SourcePair("pairs[3]", "d", "a kea", image),
            SourcePair("pairs[4]", "d", "another kea", image),
            SourcePair("pairs[5]", "e", "a kea", image, unsafe=1.5),
            Rejected("pairs[6]", "no image"),
        ]
    )
    assert added.added == 1
    assert [(each.location, each.reason) for each in added.rejected] == [
        ("pairs[0]", "bad id"),
        ("pairs[1]", "bad characters"),
        ("pairs[2]", "broken image"),
        ("pairs[4]", "duplicate id"),
        ("pairs[5]", "bad number"),
        ("pairs[6]", "no image"),
    ]
    assert added.rejected_count == 6
    assert ids(serving, "a kea") == ["d"]


def test_adding_nothing_is_no_error_and_no_new_revision(base: MakeBase, opened: Opened) -> None:
    serving = opened(base({"a": "a fox"}))
    revision = serving.describe().manifest.revision
    assert serving.add_pairs([]) == Added(0, 0, 0, [], 0, revision)
    assert serving.delete_pairs(["b"]).revision == revision


@pytest.mark.parametrize(
    ("wrong", "field"), [([], "ids"), (["a"] * 10_001, "ids"), (["a", ""], "ids[1]"), (["\ud800"], "ids[0]")]
)
def test_invalid_ids_are_refused(base: MakeBase, opened: Opened, wrong: list[str], field: str) -> None:
    serving = opened(base({"a": "a fox"}))
    with pytest.raises(InvalidArgument) as caught:
        serving.delete_pairs(wrong)
    assert caught.value.field == field
    assert ids(serving, "a fox") == ["a"]


def test_another_process_of_the_same_folder_finds_added_pairs(
    base: MakeBase, opened: Opened, make_image: MakeImage
) -> None:
    folder = base({"a": "a fox"})
    writing, following = opened(folder), opened(folder)
    assert ids(following, "a kea") == []
    writing.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())])
    assert ids(following, "a kea") == ["k"]
    assert following.describe().manifest == writing.describe().manifest
    writing.delete_pairs(["k"])
    assert ids(following, "a kea") == []


def test_a_commit_of_a_writer_killed_at_once_is_found(
    base: MakeBase, opened: Opened, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = base({"a": "a fox"})
    following = opened(folder)
    monkeypatch.setattr("reimagen_retriever.live.writer.mark_commit", lambda _: None)
    with LiveWriter(folder, Holder(work="killed")) as writer:
        writer.apply([Put(*checked_pair(SourcePair("here", "k", "a kea", make_image())))])
    wait_until(lambda: ids(following, "a kea") == ["k"])


def test_while_the_service_writes_other_writers_are_refused_with_its_address(
    base: MakeBase, opened: Opened, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reimagen_retriever.live.queue._IDLE_SECONDS", SECONDS)
    folder = base({"a": "a fox"})
    opened(folder).add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())])
    with pytest.raises(Unavailable, match=r"by the service .*--address 127\.0\.0\.1:7"):
        LiveWriter(folder, Holder(work="x"), wait_seconds=0)


def test_the_service_releases_the_base_for_other_writers(base: MakeBase, opened: Opened, make_image: MakeImage) -> None:
    folder = base({"a": "a fox"})
    serving = opened(folder)
    serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())])
    with LiveWriter(folder, Holder(work="compact"), wait_seconds=SECONDS) as other:
        other.apply([Remove("k")])
        wait_until(lambda: ids(serving, "a kea") == [])
    assert serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())]).added == 1
    base({"b": "a hotel"})
    assert (ids(serving, "a kea"), ids(serving, "a hotel")) == ([], ["b"])
    assert serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())]).added == 1
    assert ids(serving, "a kea") == ["k"]


def test_an_unreadable_change_degrades_health_until_it_is_readable(
    base: MakeBase, opened: Opened, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reimagen_retriever.served_base._DAMAGED_SECONDS", 0)
    folder = base({"a": "a fox"})
    serving = opened(folder)
    shards = folder / read_manifest(folder).shards_folder
    with monkeypatch.context() as unseen:
        # No caller gets an answer before the shard is gone.
        unseen.setattr("reimagen_retriever.served_base.ServedBase.refresh", lambda *_: None)
        with LiveWriter(folder, Holder(work="test")) as writer:
            writer.apply([Put(*checked_pair(SourcePair("here", "k", "a kea", make_image())))])
        (shards / "00001.tar").rename(shards / "elsewhere")
    wait_until(lambda: any("cannot be read" in degraded_reason for degraded_reason in serving.degraded_reasons()))
    assert (ids(serving, "a fox"), ids(serving, "a kea")) == (["a"], [])
    (shards / "elsewhere").rename(shards / "00001.tar")
    wait_until(lambda: serving.degraded_reasons() == [])
    assert ids(serving, "a kea") == ["k"]


def test_while_another_writes_changes_are_refused_and_searches_go_on(
    base: MakeBase, opened: Opened, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reimagen_retriever.live.queue.LOCK_WAIT_SECONDS", 0)
    folder = base({"a": "a fox"})
    serving = opened(folder)
    with locked(folder, Holder(work="compact")):
        with pytest.raises(Unavailable, match="is being written to by compact"):
            serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())])
        assert ids(serving, "a fox") == ["a"]
    assert serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())]).added == 1


def test_many_writers_share_commits_and_readers_see_whole_ones(
    base: MakeBase, opened: Opened, make_image: MakeImage
) -> None:
    """Each writer adds a pair, searches, removes it and searches again, while readers search."""
    serving = opened(base({"a": "a fox"}))
    image, over = make_image(), threading.Event()
    words = ("kea", "hotel", "train", "apple", "drum", "boat")

    def write(word: str) -> None:
        for number in range(8):
            identifier = f"{word} {number}"
            assert serving.add_pairs([SourcePair("pairs[0]", identifier, f"a {word}", image)]).added == 1
            assert ids(serving, f"the {word}") == [identifier]
            assert serving.delete_pairs([identifier]).removed == 1
            assert ids(serving, f"the {word}") == []

    def read() -> int:
        count = 0
        while not over.is_set() or not count:
            for word in words:
                for found in serving.search(Search(f"one {word}", 16)).neighbors:
                    assert found.pair.caption == f"a {word}"
                    assert found.image == image
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        reading = [pool.submit(read) for _ in range(2)]
        try:
            list(pool.map(write, words))
        finally:
            over.set()
        assert all(future.result() for future in reading)
    assert serving.describe().manifest.pairs == 1


def test_a_failed_add_does_not_affect_others_in_its_commit(
    base: MakeBase, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = LiveWriter.apply

    def refuse_old(writer: LiveWriter, changes: Sequence[Change]) -> list[Outcome]:
        if Remove("old") in changes:
            raise Outdated("is old")
        return apply(writer, changes)

    monkeypatch.setattr(LiveWriter, "apply", refuse_old)
    queue = WriteQueue(base({"a": "a fox"}), "", lambda: None)
    batch = [_Request([Remove("old")]), _Request([Remove("a"), Remove("b")])]
    queue._apply(batch)
    with pytest.raises(Outdated, match="is old"):
        batch[0].done.result(timeout=0)
    assert batch[1].done.result(timeout=0) == [Outcome.REMOVED, Outcome.UNKNOWN]
    queue._release()


def test_after_it_is_closed_nothing_can_be_written(base: MakeBase, opened: Opened, make_image: MakeImage) -> None:
    serving = opened(base({"a": "a fox"}))
    serving.add_pairs([SourcePair("pairs[0]", "k", "a kea", make_image())])
    serving.close()
    with pytest.raises(Unavailable):
        serving.delete_pairs(["k"])
