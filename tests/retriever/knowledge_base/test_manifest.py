import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.manifest import Manifest, manifest_stamp, read_manifest, write_manifest

MANIFEST = Manifest(
    format_version=6,
    revision="g",
    folder="data-00",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    analysis=Analysis(),
    pairs=3,
    licenses={"MIT": 2, "": 1},
    rejected={"empty caption": 1},
    shards=[],
)


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_stamp_changes_with_every_new_manifest(tmp_path: Path) -> None:
    stamps = [manifest_stamp(tmp_path)]
    for _ in range(5):
        write_manifest(tmp_path, MANIFEST)
        stamps.append(manifest_stamp(tmp_path))
    assert stamps[0] is None
    assert all(one != other for one, other in itertools.pairwise(stamps))


@pytest.mark.parametrize("name", ["nowhere", "file/kb", "."])
def test_a_folder_without_manifest_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match=r"not a complete knowledge base.*reimagen-retriever build"):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", MANIFEST.model_dump_json().replace("data-00", "../elsewhere"), "\x00" * 50],
)
def test_a_broken_manifest_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InvalidArgument, match="is broken, build the knowledge base again"):
        read_manifest(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format_version": 1, "pairs": 3}')
    with pytest.raises(
        InvalidArgument,
        match=r"format version 1, this program reads 6: build it again with `reimagen-retriever build SOURCE /",
    ):
        read_manifest(tmp_path)
