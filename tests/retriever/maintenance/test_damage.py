"""Damaged bytes in the files that searches read, and full disks."""

import errno
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reimagen_common.errors import Damaged, Unavailable
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.cli import app
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.maintenance.compact import compact
from reimagen_retriever.maintenance.snapshot import restore, snapshot
from reimagen_retriever.maintenance.union import unite
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService
from reimagen_retriever.vectors.make import make_vectors

MakeBase = Callable[..., Path]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


@contextmanager
def damaged(path: Path, place: float = 0.5) -> Iterator[None]:
    """Replace eight bytes of a file inside the context."""
    whole = path.read_bytes()
    start = int(place * (len(whole) - 8))
    changed = bytes(byte ^ 0x5A for byte in whole[start : start + 8])
    path.write_bytes(whole[:start] + changed + whole[start + 8 :])
    try:
        yield
    finally:
        path.write_bytes(whole)


@contextmanager
def retriever(folder: Path) -> Iterator[RetrievalService]:
    opened = RetrievalService(folder, AnswerCache(None, 1), "entity")
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


def files_of(folder: Path, name: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"data-*/{name}/*") if path.stat().st_size)


def test_verify_names_a_damaged_index_file_and_search_refuses_it(base: MakeBase) -> None:
    folder = base({str(number): f"a fox and {number} keas" for number in range(40)})
    files = files_of(folder, "lucene")
    assert len(files) >= 3
    for number, path in enumerate(files):
        for place in (0.1 * number, 1.0):
            with damaged(path, place):
                (damage,) = verify(folder)[1]
                assert damage.location == f"lucene/{path.name}"
                assert damage.what.startswith("is not as it was written; restore a snapshot, or build")
    with damaged(files[1]):
        reported = run("verify", folder)
        assert (reported.exit_code, reported.stderr) == (2, "")
        refused = run("search", folder, "a fox")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"error: {folder} is damaged")
        assert files[1].name in refused.stderr
        assert run("compact", folder).exit_code == 2
    assert verify(folder)[1] == []
    assert run("search", folder, "a fox").exit_code == 0


def test_a_service_with_a_damaged_index_reports_it(base: MakeBase) -> None:
    folder = base({str(number): f"a fox and {number} keas" for number in range(40)})
    (index,) = folder.glob("data-*/lucene/*.cfs")
    reported = list[str]()
    for place in range(8):
        with damaged(index, place / 8):
            try:
                with retriever(folder) as served:
                    reported += served.degraded_reasons()
                    for query in ("a fox", "7 keas"):
                        served.search(Search(query))
            except Damaged as error:
                reported.append(error.message)
    assert len(reported) >= 8
    assert all("damaged" in each and index.name in each for each in reported)


def test_damage_during_serving_is_detected(base: MakeBase) -> None:
    folder = base({"a": "a fox", "b": "a kea"})
    (index,) = folder.glob("data-*/lucene/*.cfs")
    with retriever(folder) as served:
        assert served.degraded_reasons() == []
        with damaged(index, 1.0):
            assert served.degraded_reasons()
        assert served.degraded_reasons() == []


def test_damaged_vectors_are_not_searched(base: MakeBase, sentence_encoder: MakeEncoder) -> None:
    folder = base({"a": "a fox", "b": "a kea"})
    encoder = sentence_encoder({"fox": [1.0, 0.0], "kea": [0.0, 1.0], "a": [0.1, 0.1]})
    vectors = make_vectors(folder, encoder, None, None).vectors
    assert vectors
    index = next(path for path in files_of(folder, vectors.folder) if path.name == "index.faiss")
    with damaged(index, 1.0):
        (damage,) = verify(folder)[1]
        assert damage.location == f"{vectors.folder}/index.faiss"
        assert run("search", folder, "a fox", "--method", "dense").exit_code == 2
        assert "a fox" in run("search", folder, "a fox").stdout
        with retriever(folder) as served:
            assert "index.faiss is not as it was written" in served.degraded_reasons()[0]
            assert [found.pair.id for found in served.search(Search("a fox", 1)).neighbors] == ["a"]
            for method in ("dense", "hybrid"):
                with pytest.raises(Damaged, match=r"the vectors of the knowledge base are damaged: .*index\.faiss"):
                    served.search(Search("a fox", method=method))
    assert verify(folder)[1] == []


def test_damaged_fingerprints_are_named(base: MakeBase) -> None:
    folder = base({"a": "a fox", "b": "a kea"})
    for path in files_of(folder, "fingerprints"):
        with damaged(path):
            (damage,) = verify(folder)[1]
            assert damage.location == f"fingerprints/{path.name}"
            with retriever(folder) as served:
                assert f"fingerprints/{path.name}" in served.degraded_reasons()[0]


def test_damage_in_a_part_of_a_union_is_named(base: MakeBase, tmp_path: Path) -> None:
    parts = [base({"a": "a fox"}, "one"), base({"b": "a kea"}, "two")]
    unite(tmp_path / "both", parts)
    for name in ("lucene/_0.cfs", "fingerprints/fingerprints.npy"):
        (file,) = parts[1].glob(f"data-*/{name}")
        with damaged(file):
            (damage,) = verify(tmp_path / "both")[1]
            assert damage.location == f"{parts[1]}, {name}"
    with damaged(file), retriever(tmp_path / "both") as served:
        assert name in served.degraded_reasons()[0]
    assert verify(tmp_path / "both")[1] == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the size of files: as on a full disk, the system refuses to write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("work", [compact, snapshot, restore])
def test_on_a_full_disk_the_folder_is_named_and_no_files_are_left(
    base: MakeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[..., object]
) -> None:
    folder = base({str(number): f"a fox and {number} keas" for number in range(40)})
    there = sorted(folder.rglob("*"))
    new = tmp_path / "new"

    def refused(*_: object) -> None:  # Files are copied, as to another disk.
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    arguments = [folder] if work is compact else [folder, new]
    with files_of_at_most(4_096), pytest.raises(Unavailable, match=f"cannot write to {arguments[-1]}: File too large"):
        work(*arguments)
    assert sorted(folder.rglob("*")) == there
    assert not new.exists()
    work(*arguments)


def test_a_manifest_that_cannot_be_written_leaves_no_files(base: MakeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base({"a": "a fox", "b": "a kea"})
    before, files = read_manifest(folder), sorted(folder.iterdir())
    replace = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if self.name == "manifest.json.new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    for command, *folders in (("compact", folder), ("snapshot", folder, folder.parent / "kept")):
        result = run(command, *folders)
        assert result.stderr == f"error: cannot write to {folders[-1]}: No space left on device\n"
        assert result.exit_code == 1
    assert (read_manifest(folder), sorted(folder.iterdir())) == (before, files)
    assert not (folder.parent / "kept").exists()
