import hashlib
import io
import os
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_common.errors import NotFound, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.manifest import Changes, read_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.live.writer import Change, LiveWriter, Outcome, Put, Remove

MakeBase = Callable[..., Path]
MakeImage = Callable[..., bytes]

SERVICE = Holder(work="test")
TEXTS = ("a kea", "a red fox", "a snow leopard", "a fox in the snow")


@pytest.fixture(scope="module")
def pictures(make_image: MakeImage) -> list[bytes]:
    return [make_image(color, size=(4 + number, 4)) for number, color in enumerate(("red", "blue", "green"))]


def put(identifier: str, text: str, image: bytes, license_: str = "") -> Put:
    return Put(*checked_pair(SourcePair("here", identifier, text, image, "", license_)))


class Listed:
    def __init__(self, pairs: Mapping[str, Put]) -> None:
        self._pairs = pairs

    def size(self) -> int:
        return len(self._pairs)

    def identity(self) -> Iterator[str]:
        yield from self._pairs

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        for change in list(self._pairs.values())[skip:]:
            yield change.pair

    def left_over(self) -> Iterator[Rejected]:
        return iter(())


def content(folder: Path) -> dict[str, tuple[str, str, bytes]]:
    base = KnowledgeBase.open(folder)
    try:
        pairs = [base.index.pair(document) for document in base.index.in_order()]
        assert Counter(pair.license for pair in pairs) == base.manifest.licenses
        assert len(pairs) == base.manifest.pairs == base.index.pairs
        return {pair.id: (pair.caption, pair.license, base.images.read(pair)) for pair in pairs}
    finally:
        base.close()


def expected(pairs: Mapping[str, Put]) -> dict[str, tuple[str, str, bytes]]:
    return {name: (change.pair.caption, change.pair.license, change.pair.image) for name, change in pairs.items()}


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False), st.lists(st.lists(st.booleans(), max_size=6), max_size=5))
def test_a_base_equals_a_model_of_its_changes(
    tmp_path_factory: pytest.TempPathFactory,
    pictures: list[bytes],
    rng: random.Random,
    groups: list[list[bool]],
) -> None:
    """Several writers in turn add, update and remove in groups; the base equals a dictionary."""
    folder = tmp_path_factory.mktemp("base") / "kb"
    there = {"0": put("0", "a kea", pictures[0], "MIT")}
    build(Listed(there), folder)
    revisions = [read_manifest(folder).revision]
    for removals in groups:
        changes: list[Change] = []
        outcomes = []
        before = dict(there)
        for removal in removals:
            identifier = str(rng.randrange(4))
            old = there.pop(identifier, None)
            if removal:
                changes.append(Remove(identifier))
                outcomes.append(Outcome.REMOVED if old else Outcome.UNKNOWN)
            else:
                new = there[identifier] = put(
                    identifier, rng.choice(TEXTS), rng.choice(pictures), rng.choice(("", "MIT"))
                )
                changes.append(new)
                outcomes.append(Outcome.UNCHANGED if new == old else Outcome.UPDATED if old else Outcome.ADDED)
        some = rng.randrange(len(changes) + 1)
        with LiveWriter(folder, SERVICE) as writer:
            assert writer.apply(changes[:some]) + writer.apply(changes[some:]) == outcomes
            assert content(folder) == expected(there)
            if before != there:
                revisions.append(writer.revision)
    assert len(set(revisions)) == len(revisions)


def test_searches_equal_those_of_a_build_of_the_same_pairs(tmp_path: Path, pictures: list[bytes]) -> None:
    pairs = {f"{number}": put(f"{number}", TEXTS[number % 4], pictures[number % 3]) for number in range(40)}
    build(Listed({"0": pairs["0"]}), tmp_path / "live")
    with LiveWriter(tmp_path / "live", SERVICE) as writer:
        for change in pairs.values():
            writer.apply([change])
    build(Listed(pairs), tmp_path / "built")
    live, built = KnowledgeBase.open(tmp_path / "live"), KnowledgeBase.open(tmp_path / "built")
    for query in (*TEXTS, "fox", "a snow kea", "unicorn"):
        mine, reference = (base.index.search(query, 16, 0, "any") for base in (live, built))
        assert [hit.pair.id for hit in mine] == [hit.pair.id for hit in reference]
        assert [hit.score for hit in mine] == pytest.approx([hit.score for hit in reference], rel=1e-6)
        mine, reference = (base.index.search(query, 16, 0, "entity") for base in (live, built))
        assert [hit.pair.id for hit in mine] == [hit.pair.id for hit in reference]
    live.close()
    built.close()


def test_the_same_pair_again_changes_nothing(base: MakeBase, pictures: list[bytes]) -> None:
    folder = base({"a": "a fox"})
    with LiveWriter(folder, SERVICE) as writer:
        assert writer.apply([put("b", "a kea", pictures[0], "MIT")]) == [Outcome.ADDED]
        revision = writer.revision
        assert writer.apply([put("b", " a  kea", pictures[0], "MIT"), Remove("x")]) == [
            Outcome.UNCHANGED,
            Outcome.UNKNOWN,
        ]
        assert writer.revision == revision
        for other in (put("b", "a kea", pictures[1], "MIT"), put("b", "a kea", pictures[1], "CC0-1.0")):
            assert writer.apply([other]) == [Outcome.UPDATED]
            assert writer.revision != revision


def test_live_shards_have_the_format_of_a_build(base: MakeBase, pictures: list[bytes]) -> None:
    folder = base({"a": "a fox"})
    for name in ("b", "c"):  # The second writer continues the shard of the first.
        with LiveWriter(folder, SERVICE) as writer:
            writer.apply([put(name, "a kea", pictures[0])])
    kb = KnowledgeBase.open(folder)
    built, live = kb.manifest.shards
    assert (built.name, built.live, live.name, live.live, live.pairs) == ("00000.tar", False, "00001.tar", True, 2)
    path = folder / kb.manifest.shards_folder / live.name
    with tarfile.open(path) as tar:
        keys = [f"00001000{number}" for number in range(2)]
        assert tar.getnames() == [f"{key}.{kind}" for key in keys for kind in ("png", "txt", "json")]
    assert path.stat().st_size % tarfile.RECORDSIZE == 0
    assert not any(path.read_bytes()[live.size :])
    kb.close()


def test_many_pairs_fill_several_shards(base: MakeBase, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reimagen_retriever.knowledge_base.shards.PAIRS_PER_SHARD", 3)
    folder = base({"a": "a fox"})
    for first in (0, 7, 8):
        with LiveWriter(folder, SERVICE) as writer:
            writer.apply([put(f"{number}", "a kea", pictures[number % 3]) for number in range(first, first + 7)])
    kb = KnowledgeBase.open(folder)
    assert [(shard.name, shard.pairs) for shard in kb.manifest.shards] == [
        ("00000.tar", 1),
        *((f"{number:05d}.tar", 3) for number in range(1, 6)),
    ]
    kb.close()
    assert len(content(folder)) == 16


def test_the_next_writer_truncates_what_a_killed_one_left(base: MakeBase, pictures: list[bytes]) -> None:
    folder = base({"a": "a fox"})
    with LiveWriter(folder, SERVICE) as writer:
        writer.apply([put("b", "a kea", pictures[0])])
    before = content(folder)
    shards = folder / read_manifest(folder).shards_folder
    with (shards / "00001.tar").open("ab") as shard:
        shard.write(os.urandom(5_000))
    (shards / "00002.tar").write_bytes(b"torn")
    assert content(folder) == before
    with LiveWriter(folder, SERVICE) as writer:
        writer.apply([put("c", "a kea", pictures[1])])
    assert sorted(path.name for path in shards.iterdir()) == ["00000.tar", "00001.tar"]
    assert content(folder) == before | {"c": ("a kea", "", pictures[1])}


@pytest.mark.parametrize("failing", ["images", "texts", "commit"])
def test_a_write_that_fails_changes_nothing_and_the_next_works(
    base: MakeBase, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """An fsync of the images or of Lucene's files fails, which a healthy disk cannot show."""
    folder = base({"a": "a fox"})
    before = content(folder)

    def fail(*_: object) -> None:
        if failing == "images":
            raise OSError(5, "Input/output error")
        raise Unavailable("Lucene cannot write to it: Input/output error")

    targets: dict[str, tuple[object, str]] = {
        "images": (os, "fsync"),
        "texts": (IndexWriter, "put"),
        "commit": (IndexWriter, "commit"),
    }
    writer = LiveWriter(folder, SERVICE)
    with monkeypatch.context() as patched:
        patched.setattr(*targets[failing], fail)
        with pytest.raises(Unavailable, match="Input/output error"):
            writer.apply([put("b", "a kea", pictures[0]), Remove("a")])
    writer.close()
    assert content(folder) == before
    with LiveWriter(folder, SERVICE) as writer:
        writer.apply([put("b", "a kea", pictures[0]), Remove("a")])
    assert content(folder) == {"b": ("a kea", "", pictures[0])}


def test_one_writer_at_a_time(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    with (
        LiveWriter(folder, Holder(work="the service", address="127.0.0.1:1")),
        pytest.raises(Unavailable, match=r"written to by the service .*--address 127\.0\.0\.1:1"),
    ):
        LiveWriter(folder, SERVICE, wait_seconds=0)


def test_a_missing_base_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not a complete knowledge base"):
        LiveWriter(tmp_path, SERVICE)
    assert list(tmp_path.iterdir()) == []


def test_every_pair_can_be_removed(base: MakeBase, pictures: list[bytes]) -> None:
    folder = base({"a": "a fox", "b": "a kea"})
    with LiveWriter(folder, SERVICE) as writer:
        writer.apply([Remove("a"), Remove("b")])
    assert content(folder) == {}
    kb = KnowledgeBase.open(folder)
    assert kb.index.search("fox", 4, 0, "any") == []
    assert Changes.read(kb.index.notes) is not None
    kb.close()


def test_a_pair_stores_the_digest_of_its_image(base: MakeBase, make_image: MakeImage) -> None:
    folder = base({"a": "a fox"})
    image = make_image("teal", kind="JPEG")
    with LiveWriter(folder, SERVICE) as writer:
        writer.apply([put("b", "a kea", image)])
    kb = KnowledgeBase.open(folder)
    pair = kb.index.get("b")
    assert pair
    assert pair.sha256 == hashlib.sha256(image).hexdigest() == hashlib.sha256(kb.images.read(pair)).hexdigest()
    assert io.BytesIO(kb.images.read(pair)).read() == image
    kb.close()
