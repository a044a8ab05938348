"""Near-duplicates of live writes, against the marks of a build of the same pairs."""

import io
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reimagen_common.errors import ReimagenError
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.dedup.duplicates import DuplicateFinder
from reimagen_retriever.dedup.fingerprint_index import ADDED, AddedFingerprints, FingerprintWriter, KeptFingerprints
from reimagen_retriever.dedup.relabel import marked
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.appended import Record, read_appended
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.manifest import read_manifest, write_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair, StoredPair
from reimagen_retriever.live.writer import LiveWriter, Outcome, Put, Remove
from reimagen_retriever.maintenance.compact import compact
from reimagen_retriever.maintenance.snapshot import snapshot
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService

TEST = Holder(work="test")
FLAT = 128
SECONDS = 60


def shade(level: int) -> bytes:
    """Return a fingerprint of one gray: grays less than 1 apart are near, so that chains of small changes are long."""
    row = np.full(192, FLAT, np.uint8)
    row[: level * 16] += 1
    return row.tobytes()


class InMemory:
    """A fake index with the methods that marks need."""

    def __init__(self) -> None:
        self.pairs: dict[str, StoredPair] = {}

    def pairs_of(self, ids: list[str], filters: Filters) -> dict[str, StoredPair]:
        return {each: self.pairs[each] for each in ids if each in self.pairs}

    def duplicates_of(self, identifier: str) -> list[StoredPair]:
        return [pair for pair in self.pairs.values() if pair.duplicate_of == identifier]


def stored(identifier: str, place: int) -> StoredPair:
    return StoredPair(
        id=identifier,
        caption="a",
        shard="00000.tar",
        offset=place,
        length=1,
        sha256="",
        media_type="image/png",
        width=1,
        height=1,
    )


def as_built(pairs: Sequence[StoredPair], fingerprints: dict[int, bytes]) -> dict[str, str]:
    finder = DuplicateFinder()
    in_order = sorted(pairs, key=lambda pair: pair.position)
    return {pair.id: finder.find(pair.id, fingerprints[pair.position]) for pair in in_order}


@settings(deadline=None, max_examples=150)
@given(
    built=st.lists(st.integers(0, 12), max_size=12),
    groups=st.lists(st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 12), max_size=6), max_size=8),
)
def test_marks_equal_those_of_a_build_of_the_same_pairs(
    tmp_path_factory: pytest.TempPathFactory, built: list[int], groups: list[dict[int, int | None]]
) -> None:
    """Each shade is near to the next few: removing one changes the marks of later ones, and so on."""
    folder = tmp_path_factory.mktemp("kept")
    fingerprints = {place: shade(level) for place, level in enumerate(built)}
    index = InMemory()
    writer = FingerprintWriter(folder, len(built))
    for place, row in fingerprints.items():
        index.pairs[f"{place}"] = stored(f"{place}", place)
        writer.add(f"{place}", place, row)
    writer.finish()
    for identifier, original in as_built(list(index.pairs.values()), fingerprints).items():
        index.pairs[identifier] = index.pairs[identifier].model_copy(update={"duplicate_of": original})
    kept = KeptFingerprints(AddedFingerprints(folder), built=True)
    place = len(built)
    for group in groups:
        after: dict[str, StoredPair | None] = {}
        for number, level in group.items():
            after[f"{number}"] = None
            if level is not None:
                fingerprints[place] = shade(level)
                kept.add(f"{number}", place, fingerprints[place])
                after[f"{number}"] = stored(f"{number}", place)
                place += 1
        before = {identifier: index.pairs.get(identifier) for identifier in after}
        for identifier, pair in marked(index, kept, before, after).items():
            index.pairs.pop(identifier, None)
            if pair:
                index.pairs[identifier] = pair
        now = {identifier: pair.duplicate_of for identifier, pair in index.pairs.items()}
        assert now == as_built(list(index.pairs.values()), fingerprints)


class Listed:
    def __init__(self, pairs: Sequence[SourcePair]) -> None:
        self._pairs = pairs

    def size(self) -> int:
        return len(self._pairs)

    def identity(self) -> Iterator[str]:
        yield from (pair.id for pair in self._pairs)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        yield from self._pairs[skip:]

    def left_over(self) -> Iterator[Rejected]:
        return iter(())


def image(motif: int, size: int = 32, kind: str = "PNG") -> bytes:
    """Return one of a few motifs, each in many files."""
    cells = Image.frombytes("RGB", (4, 4), random.Random(motif).randbytes(48))
    file = io.BytesIO()
    cells.resize((size, size), Image.Resampling.NEAREST).save(file, kind)
    return file.getvalue()


def pair(identifier: str, motif: int, size: int = 32, text: str = "a kea") -> SourcePair:
    return SourcePair("here", identifier, text, image(motif, size))


def put(given: SourcePair) -> Put:
    return Put(*checked_pair(given))


def content(folder: Path) -> tuple[list[SourcePair], dict[str, str]]:
    """Return all pairs in the order of the shards, and their marks."""
    base = KnowledgeBase.open(folder)
    pairs = [base.index.pair(document) for document in base.index.in_order()]
    found = [SourcePair("", each.id, each.caption, base.images.read(each)) for each in pairs]
    base.close()
    return found, {each.id: each.duplicate_of for each in pairs}


@pytest.mark.parametrize("seed", range(2))
def test_live_writes_mark_near_duplicates_like_a_build(tmp_path: Path, seed: int) -> None:
    """Several writers in turn change a real base, which is then compacted."""
    rng = random.Random(seed)
    known = None
    folder = tmp_path / "kb"
    build(Listed([pair(f"{number}", number % 3, 30 + number) for number in range(6)]), folder)
    for _ in range(4):
        with LiveWriter(folder, TEST, known=known if seed else None) as writer:
            known = writer.known
            for _ in range(3):
                numbers = rng.sample(range(10), 3)
                writer.apply(
                    [
                        Remove(f"{number}")
                        if rng.random() < 0.4
                        else put(pair(f"{number}", rng.randrange(4), rng.randint(16, 64)))
                        for number in numbers
                    ]
                )
    pairs, marks = content(folder)
    fresh = build(Listed(pairs), tmp_path / "fresh").manifest
    assert marks == content(tmp_path / "fresh")[1]
    assert any(marks.values())
    assert verify(folder)[1] == []
    snapshot(folder, tmp_path / "kept")
    assert compact(tmp_path / "kept").revision == fresh.revision
    assert verify(tmp_path / "kept")[1] == []
    # A compacted base continues like an uncompacted one.
    for each in (folder, tmp_path / "kept"):
        with LiveWriter(each, TEST) as writer:
            writer.apply([put(pair("last", 1, 77)), Remove(pairs[0].id)])
    assert content(folder) == content(tmp_path / "kept")


@pytest.fixture
def opened() -> Iterator[Callable[[Path], RetrievalService]]:
    with ExitStack() as closing:

        def make(folder: Path) -> RetrievalService:
            retriever = RetrievalService(folder, AnswerCache(None, 1), "entity")
            closing.callback(retriever.close)
            retriever.open()
            return retriever

        yield make


def test_a_search_shows_one_near_duplicate_after_any_removal(
    tmp_path: Path, opened: Callable[[Path], RetrievalService]
) -> None:
    folder = tmp_path / "kb"
    build(Listed([pair("built", 0, 32, "a red kea"), pair("other", 1, 32, "a kea far away")]), folder)
    serving = opened(folder)

    def found() -> list[str]:
        return [each.pair.id for each in serving.search(Search("a red kea", 16)).neighbors]

    assert found() == ["built", "other"]
    same = [pair("bigger", 0, 64, "a red kea"), pair("smaller", 0, 16, "a kea")]
    assert serving.add_pairs(same).added == 2
    # The best of near-duplicates is shown, whether added or built.
    assert found() == ["bigger", "other"]
    assert serving.get_pair("bigger").pair.duplicate_of == "built"
    serving.delete_pairs(["built"])
    assert found() == ["bigger", "other"]
    assert serving.get_pair("bigger").pair.duplicate_of == ""
    assert serving.get_pair("smaller").pair.duplicate_of == "bigger"
    # The id returns with another image, which must neither hide its former duplicates nor be hidden.
    assert serving.add_pairs([pair("built", 2, 32, "a red kea")]).added == 1
    assert found() == ["bigger", "built", "other"]
    serving.delete_pairs(["bigger"])
    assert set(found()) == {"smaller", "built", "other"}
    # If an original gets another image, its duplicates lose their mark.
    serving.add_pairs([pair("twin", 2, 48, "a kea")])
    assert serving.get_pair("twin").pair.duplicate_of == "built"
    serving.add_pairs([pair("built", 3, 32, "a red kea")])
    assert serving.get_pair("twin").pair.duplicate_of == ""
    assert set(found()) == {"smaller", "built", "other", "twin"}


def test_a_service_reads_only_fingerprints_since_its_last_write(
    tmp_path: Path, opened: Callable[[Path], RetrievalService], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kb"
    build(Listed([pair("built", 0)]), folder)
    added = folder / read_manifest(folder).folder / ADDED
    monkeypatch.setattr("reimagen_retriever.live.queue._IDLE_SECONDS", 0)
    serving = opened(folder)
    serving.add_pairs([pair("mine", 1)])
    before = added.stat().st_size
    with LiveWriter(folder, TEST, SECONDS) as other:  # When the service has released the base.
        other.apply([put(pair("theirs", 2))])
    read = []

    def reading(path: Path, length: int, start: int, end: int) -> list[Record]:
        read.append((start, end))
        return read_appended(path, length, start, end)

    monkeypatch.setattr("reimagen_retriever.dedup.fingerprint_index.read_appended", reading)
    after = added.stat().st_size
    serving.add_pairs([pair("mine again", 1, 48), pair("theirs again", 2, 48), pair("built again", 0, 48)])
    assert read == [(before, after)]
    assert {key: value for key, value in content(folder)[1].items() if value} == {
        "mine again": "mine",
        "theirs again": "theirs",
        "built again": "built",
    }
    with LiveWriter(folder, TEST, SECONDS):
        pass
    compact(folder)
    serving.add_pairs([pair("mine once more", 1, 20)])
    assert content(folder)[1]["mine once more"] == "mine"


def test_adding_the_same_pair_again_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    build(Listed([pair("built", 0)]), folder)
    for outcome in (Outcome.ADDED, Outcome.UNCHANGED):
        with LiveWriter(folder, TEST) as writer:
            assert writer.apply([put(pair("again", 0, 64))]) == [outcome]
    assert content(folder)[1] == {"built": "", "again": "built"}


@pytest.mark.parametrize("damaged", ["fingerprints/fingerprints.npy", "fingerprints/cells.npy", ADDED])
def test_damaged_fingerprints_are_reported_and_compacting_rebuilds_them(tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "kb"
    build(Listed([pair("a", 0), pair("b", 0, 64)]), folder)
    with LiveWriter(folder, TEST) as writer:
        writer.apply([put(pair("c", 1)), put(pair("d", 1, 64))])
    path = folder / read_manifest(folder).folder / damaged
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (damage,) = verify(folder)[1]
    assert damage.location.startswith(damaged)
    assert "`compact` rebuilds the fingerprints" in damage.what
    compact(folder)
    assert verify(folder)[1] == []
    with LiveWriter(folder, TEST) as writer:
        writer.apply([put(pair("e", 0, 20))])
    assert content(folder)[1] == {"a": "", "b": "a", "c": "", "d": "c", "e": "a"}


def test_without_fingerprints_a_base_is_read_only_until_compacted(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    build(Listed([pair("a", 0)]), folder)
    shutil.rmtree(folder / read_manifest(folder).folder / "fingerprints")
    KnowledgeBase.open(folder).close()
    with pytest.raises(ReimagenError, match=r"is damaged, .*run `verify` for details.*cannot read the fingerprints"):
        LiveWriter(folder, TEST)
    assert {damage.location for damage in verify(folder)[1]} >= {
        "fingerprints/fingerprints.npy",
        "fingerprints/cells.npy",
    }
    compact(folder)
    assert verify(folder)[1] == []
    with LiveWriter(folder, TEST) as writer:
        writer.apply([put(pair("b", 0, 64))])
    assert content(folder)[1] == {"a": "", "b": "a"}


def test_a_base_without_fingerprints_compares_only_added_pairs_until_compacted(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "kb"
    build(Listed([pair("built", 0)]), folder)
    manifest = read_manifest(folder)
    shutil.rmtree(folder / manifest.folder / "fingerprints")
    write_manifest(folder, manifest.model_copy(update={"fingerprints": {}}))
    with LiveWriter(folder, TEST) as writer:
        writer.apply([put(pair("shown again", 0, 64)), put(pair("new", 1))])
    # A later writer finds it too.
    with LiveWriter(folder, TEST) as writer:
        writer.apply([put(pair("new again", 1, 64)), put(pair("and again", 0, 20))])
    pairs, marks = content(folder)
    assert marks == {"built": "", "shown again": "", "new": "", "new again": "new", "and again": "shown again"}
    assert verify(folder)[1] == []
    fresh = build(Listed(pairs), tmp_path / "fresh").manifest
    assert compact(folder).revision == fresh.revision
    assert content(folder) == content(tmp_path / "fresh")
    assert content(folder)[1] == {**marks, "shown again": "built", "and again": "built"}
    with LiveWriter(folder, TEST) as writer:
        writer.apply([put(pair("last", 0, 48))])
    assert content(folder)[1]["last"] == "built"
    assert verify(folder)[1] == []
