"""Indexes that Lucene 9.9 and 10.5 wrote, see `write_index`, opened by the Lucene that runs."""

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.cli import app
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.version import dotted, running, written_by
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.damage import NewerLuceneError
from reimagen_retriever.knowledge_base.manifest import mark_commit
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService
from tests.retriever.index.write_index import pair

MakeBase = Callable[..., Path]

WRITTEN = sorted(Path(__file__).with_name("lucene").iterdir())
"""Folders named after the versions that wrote to the index, the last one last."""


def version(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, folder.name.rpartition("-")[2].split(".")))


def found(folder: Path, query: str) -> list[tuple[str, float]]:
    index = BM25Index(folder)
    hits = [(hit.pair.id, hit.score) for hit in index.search(query, 4, 0, "any")]
    index.close()
    return hits


def committed_by(folder: Path, major: int) -> None:
    """Replace the version in the last commit of an index."""
    (commit,) = folder.glob("segments_*")
    content = bytearray(commit.read_bytes()[:-8])
    own = running()
    start = content.index(bytes(own))
    content[start] = major
    commit.write_bytes(content + zlib.crc32(content).to_bytes(8))


def test_there_are_indexes_of_both_major_versions_and_of_both_in_turn() -> None:
    assert {version(folder)[0] for folder in WRITTEN} == {9, 10}
    assert [folder for folder in WRITTEN if "-" in folder.name]


@pytest.mark.parametrize("folder", WRITTEN, ids=lambda folder: folder.name)
def test_an_index_of_an_older_lucene_is_read_and_one_of_a_newer_is_refused(folder: Path, tmp_path: Path) -> None:
    assert written_by(folder) == version(folder)
    if version(folder)[:2] > running()[:2]:
        with pytest.raises(
            NewerLuceneError, match=rf"Lucene {dotted(running())} .*: use Python 3.12 or newer, or build"
        ):
            BM25Index(folder)
        return
    identifiers = ["apple", "boat", "cloud"][: 3 if "-" in folder.name else 2]
    with IndexWriter(tmp_path / "own") as writer:
        for identifier in identifiers:
            writer.add(pair(identifier))
        writer.commit({})
    for query in ("kea", "a kea beside a boat", "a train"):
        assert found(folder, query) == found(tmp_path / "own", query)


def test_a_write_makes_an_index_one_of_the_lucene_that_runs(tmp_path: Path) -> None:
    folder = shutil.copytree(WRITTEN[-1].with_name("9.9.1"), tmp_path / "lucene")
    before = BM25Index(folder)
    with IndexWriter(folder) as writer:
        writer.put(pair("train"))
        writer.remove("boat")
        writer.commit({})
    assert written_by(folder) == running()
    assert {identifier for identifier, _ in found(folder, "a kea")} == {"apple", "train"}
    after = before.refreshed()
    assert after
    assert [hit.pair.id for hit in after.search("train", 4, 0, "any")] == ["train"]
    before.close()
    after.close()


def test_a_base_that_a_newer_lucene_wrote_is_refused(base: MakeBase) -> None:
    folder = base({"a": "a kea"})
    (lucene,) = folder.glob("data-*/lucene")
    committed_by(lucene, 99)
    message = rf"{folder} cannot be read: Lucene 99\.\S+ wrote its index, .* or build the knowledge base again"
    with pytest.raises(InvalidArgument, match=message):
        KnowledgeBase.open(folder)
    for command in (["search", folder, "a kea"], ["verify", folder], ["compact", folder]):
        refused = CliRunner().invoke(app, [str(part) for part in command])
        assert (refused.exit_code, "Lucene 99." in refused.stderr) == (2, True)


def test_a_service_serves_the_state_before_a_write_of_a_newer_lucene(base: MakeBase) -> None:
    folder = base({"a": "a kea"})
    (lucene,) = folder.glob("data-*/lucene")
    service = RetrievalService(folder, AnswerCache(None, 1), "entity")
    service.open()
    committed_by(lucene, 99)
    mark_commit(lucene.parent)
    assert [found.pair.id for found in service.search(Search("a kea")).neighbors] == ["a"]
    (reason,) = service.degraded_reasons()
    assert "the knowledge base has changed and cannot be read: Lucene 99." in reason
    service.close()


def test_describe_names_the_lucene_that_wrote_a_base(base: MakeBase) -> None:
    described = CliRunner().invoke(app, ["describe", str(base({"a": "a kea"}))])
    assert f"last written by Lucene {dotted(running())}\n" in described.stdout


def test_a_folder_without_a_whole_commit_has_no_version(tmp_path: Path) -> None:
    assert written_by(tmp_path / "nowhere") is None
    assert written_by(tmp_path) is None
    for size in range(154):
        (tmp_path / "segments_1").write_bytes((WRITTEN[-1].with_name("9.9.1") / "segments_1").read_bytes()[:size])
        assert written_by(tmp_path) is None


def test_the_last_commit_counts(tmp_path: Path) -> None:
    for name, folder in (("segments_z", "9.9.1"), ("segments_10", "10.5.0")):
        (commit,) = (WRITTEN[-1].with_name(folder)).glob("segments_*")
        shutil.copy(commit, tmp_path / name)
    assert written_by(tmp_path) == (10, 5, 0)
