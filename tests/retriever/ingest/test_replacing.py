"""Builds over an existing base: replaced, removed and untouched files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.sources import open_source

MakeFolder = Callable[[Mapping[str, str]], Path]
MakeImage = Callable[..., bytes]
MakeBase = Callable[..., Path]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_build_replaces_the_base_and_removes_old_files(tmp_path: Path, base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    first = read_manifest(folder)
    base({"b": "a kea", "c": "a panda"})
    second = read_manifest(folder)
    assert (first.pairs, second.pairs) == (1, 2)
    assert names(folder) == {"manifest.json", ".lock", second.folder}


def test_an_open_base_stays_readable_while_it_is_replaced(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    old = KnowledgeBase.open(folder)
    base({"b": "a kea"})
    (hit,) = old.index.search("fox", 1, 0, "any")
    assert old.images.read(hit.pair).startswith(b"\x89PNG")
    assert KnowledgeBase.open(folder).index.search("fox", 1, 0, "any") == []
    old.close()


def test_the_next_build_removes_the_files_of_an_interrupted_one(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    (folder / "data-0123" / "shards").mkdir(parents=True)
    base({"a": "a fox"})
    assert not (folder / "data-0123").exists()


def test_a_folder_with_other_files_is_not_touched(folder: MakeFolder, tmp_path: Path) -> None:
    source = folder({"a": "a fox"})
    before = names(source)
    with pytest.raises(InvalidArgument, match=r"KB_DIR: .* has other files than a knowledge base"):
        build(open_source(source), source)
    assert names(source) == before
    with pytest.raises(InvalidArgument, match=r"KB_DIR: .* is not a folder"):
        build(open_source(source), source / "a.png")


def test_the_shards_of_a_base_are_a_source(tmp_path: Path, base: MakeBase) -> None:
    folder = base({"a": "a fox", "b/c.d": "a kea"})
    manifest = read_manifest(folder)
    copy = build(open_source(folder / manifest.shards_folder), tmp_path / "copy").manifest
    assert copy.revision == manifest.revision
    assert copy.shards == manifest.shards


def test_a_damaged_base_and_a_missing_one_have_different_errors(base: MakeBase) -> None:
    folder = base({"a": "a fox"})
    shard = folder / read_manifest(folder).shards_folder / "00000.tar"
    shard.write_bytes(b"")
    with pytest.raises(ReimagenError, match=r"is damaged, build it again: 00000\.tar has 0 bytes"):
        KnowledgeBase.open(folder)
