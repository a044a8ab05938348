import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument, ReimagenError, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.build import BuildOptions, build
from reimagen_retriever.folder_lock import Holder, locked
from reimagen_retriever.index.analysis import Analysis
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

MakeFolder = Callable[[Mapping[str, str]], Path]
MakePicture = Callable[..., bytes]
MakeBase = Callable[..., Path]


@dataclass
class ListSource:
    """A source that holds what it is given, and raises what it is given."""

    items: list[SourcePair | Rejected | BaseException]

    def size(self) -> int:
        return len(self.items)

    def identity(self) -> Iterator[str]:
        yield str(len(self.items))

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        for item in self.items[skip:]:
            if isinstance(item, BaseException):
                raise item
            yield item


@pytest.fixture
def fox(picture: MakePicture) -> SourcePair:
    return SourcePair("here", "fox", "a fox", picture(), "pack@1", "MIT")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_pair_is_stored_and_found(tmp_path: Path, picture: MakePicture) -> None:
    kinds = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
    images = {kind: picture("blue", size=(9, 7), kind=kind) for kind in kinds}
    pairs = [
        SourcePair("here", f"id {kind}", f"  a {kind}\n picture ", image, " from here ", "MIT")
        for kind, image in images.items()
    ]
    report = build(ListSource([*pairs]), tmp_path / "kb")
    base = KnowledgeBase.open(tmp_path / "kb")
    assert base.manifest == report.manifest
    assert (report.manifest.pairs, report.manifest.licenses, report.manifest.rejected) == (3, {"MIT": 3}, {})
    for kind, media_type in kinds.items():
        (hit,) = base.index.search(f"the {kind}", 1, 0, 0)
        pair = hit.pair
        assert (pair.id, pair.contents) == (f"id {kind}", f"a {kind} picture")
        assert (pair.media_type, pair.width, pair.height) == (media_type, 9, 7)
        assert (pair.source, pair.license) == ("from here", "MIT")
        assert base.images.read(pair) == images[kind]
    base.close()


def test_what_cannot_be_taken_is_reported_by_place_and_counted(
    tmp_path: Path, fox: SourcePair, picture: MakePicture
) -> None:
    bad: list[SourcePair | Rejected | BaseException] = [
        Rejected("line 1", "no picture", "why"),
        SourcePair("line 2", "a", " \n", picture()),
        SourcePair("line 3", "b", "a kea", picture()[:40]),
        SourcePair("line 4", "c", "a kea", b"GIF89a"),
        SourcePair("line 5", "d", "a k\x00ea", picture()),
        SourcePair("line 6", "fox", "another fox", picture()),
        SourcePair("line 7", "", "a kea", picture()),
        SourcePair("line 8", "e", "a kea", picture(), license="\ud800"),
    ]
    report = build(ListSource([fox, *bad]), tmp_path / "kb")
    assert [entry.place for entry in report.rejected] == [f"line {number}" for number in range(1, 9)]
    assert report.manifest.pairs == 1
    assert report.manifest.rejected == {
        "broken picture": 2,
        "bad characters": 2,
        "no picture": 1,
        "empty caption": 1,
        "duplicate id": 1,
        "bad id": 1,
    }


def test_a_pair_that_was_refused_does_not_take_its_id(tmp_path: Path, fox: SourcePair, picture: MakePicture) -> None:
    report = build(ListSource([SourcePair("here", "fox", "a fox", b"broken"), fox]), tmp_path / "kb")
    assert report.manifest.pairs == 1
    assert report.manifest.rejected == {"broken picture": 1}


def test_the_generation_is_that_of_the_content(tmp_path: Path, fox: SourcePair, picture: MakePicture) -> None:
    def generation(*pairs: SourcePair) -> str:
        return build(ListSource([*pairs]), tmp_path / "kb").manifest.generation

    kea = SourcePair("there", "kea", "a kea", picture())
    same = generation(fox, kea)
    assert generation(fox, kea) == same
    others = [
        generation(fox),
        generation(kea, fox),
        generation(fox, SourcePair("", "kea", "a kea", picture("blue"))),
        generation(fox, SourcePair("", "kea", "the kea", picture())),
        generation(fox, SourcePair("", "kea", "a kea", picture(), license="MIT")),
    ]
    assert len({same, *others}) == 6


def test_a_new_build_replaces_the_base_and_leaves_nothing_behind(tmp_path: Path, base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    first = read_manifest(folder)
    base({"b": "a kea", "c": "a panda"})
    second = read_manifest(folder)
    assert (first.pairs, second.pairs) == (1, 2)
    assert names(folder) == {"manifest.json", ".lock", second.folder}


def test_a_base_that_is_open_while_it_is_replaced_stays_whole(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    old = KnowledgeBase.open(folder)
    base({"b": "a kea"})
    (hit,) = old.index.search("fox", 1, 0, 0)
    assert old.images.read(hit.pair).startswith(b"\x89PNG")
    assert KnowledgeBase.open(folder).index.search("fox", 1, 0, 0) == []
    old.close()


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")])
def test_a_build_that_fails_leaves_what_was_there(
    tmp_path: Path, base: MakeBase, fox: SourcePair, failure: BaseException
) -> None:
    with pytest.raises(type(failure)):
        build(ListSource([fox, failure]), tmp_path / "new")
    assert names(tmp_path / "new") == {".lock"}
    folder = base({"a": "a kea"})
    before = read_manifest(folder)
    with pytest.raises(type(failure)):
        build(ListSource([fox, failure]), folder)
    assert read_manifest(folder) == before
    assert names(folder) == {"manifest.json", ".lock", before.folder}
    assert KnowledgeBase.open(folder).index.search("kea", 1, 0, 0)


def test_nothing_taken_is_an_error_that_says_why(tmp_path: Path, base: MakeBase) -> None:
    folder = base({"a": "a kea"})
    before = read_manifest(folder)
    with pytest.raises(InvalidArgument, match=r"source: nothing could be taken from it \(no picture: 2\)"):
        build(ListSource([Rejected("1", "no picture"), Rejected("2", "no picture")]), folder)
    with pytest.raises(InvalidArgument, match=r"source: nothing could be taken from it \(it is empty\)"):
        build(ListSource([]), folder)
    assert read_manifest(folder) == before


def test_what_an_interrupted_build_left_is_removed_by_the_next(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    (folder / "data-0123" / "shards").mkdir(parents=True)
    base({"a": "a fox"})
    assert not (folder / "data-0123").exists()


def test_a_folder_with_other_things_in_it_is_not_touched(folder: MakeFolder, tmp_path: Path) -> None:
    source = folder({"a": "a fox"})
    before = names(source)
    with pytest.raises(InvalidArgument, match=r"KB_DIR: .* holds other things than a knowledge base"):
        build(open_source(source), source)
    assert names(source) == before
    with pytest.raises(InvalidArgument, match=r"KB_DIR: .* is not a folder"):
        build(open_source(source), source / "a.png")


def test_two_builds_at_once_do_not_mix(base: MakeBase, fox: SourcePair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reimagen_retriever.build.LOCK_WAIT_SECONDS", 0)
    folder = base({"a": "a kea"})
    with (
        locked(folder, Holder(work="build")),
        pytest.raises(Unavailable, match=rf"kb is being written to by build \(pid {os.getpid()} on "),
    ):
        build(ListSource([fox]), folder)
    assert build(ListSource([fox]), folder).manifest.pairs == 1


def test_the_shards_of_a_base_are_a_source_again(tmp_path: Path, base: MakeBase) -> None:
    folder = base({"a": "a fox", "b/c.d": "a kea"})
    manifest = read_manifest(folder)
    copy = build(open_source(folder / manifest.shards_folder), tmp_path / "copy").manifest
    assert copy.generation == manifest.generation
    assert copy.shards == manifest.shards


def test_a_damaged_base_is_told_from_a_missing_one(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    shard = folder / read_manifest(folder).shards_folder / "00000.tar"
    shard.write_bytes(b"")
    with pytest.raises(ReimagenError, match=r"is damaged, build it again: 00000\.tar has 0 bytes"):
        KnowledgeBase.open(folder)


def test_the_analysis_is_kept_and_is_part_of_the_content(tmp_path: Path, fox: SourcePair) -> None:
    plain = build(ListSource([fox]), tmp_path / "plain").manifest
    german = build(
        ListSource([fox]), tmp_path / "german", BuildOptions(analysis=Analysis(language="de", k1=1.2, b=0.75))
    ).manifest
    assert plain.analysis == Analysis()
    assert read_manifest(tmp_path / "german").analysis == Analysis(language="de", k1=1.2, b=0.75)
    assert plain.generation != german.generation
    base = KnowledgeBase.open(tmp_path / "german")
    assert base.index.terms("die Häuser") == ["haus"]
    base.close()
