"""Sources in object stores."""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.knowledge_base.sources.files import LocalFiles, RemoteFiles, locate

ROWS = [{"image": b"0", "caption": "a fox", "url": "https://a"}, {"caption": "x", "error_message": "404"}]


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def upload(store: MemoryFileSystem, folder: Path) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"/set/{path.relative_to(folder)}", path.read_bytes())
    return "memory://set"


def test_every_source_gives_the_same_from_a_store(
    memory: MemoryFileSystem,
    img2dataset: Callable[..., Path],
    folder: Callable[[Mapping[str, str]], Path],
    webqa: Callable[[Mapping[int, tuple[str, bytes]]], Path],
    coco: Callable[[Mapping[int, Sequence[str]]], Path],
    parquet_file: Callable[..., Path],
) -> None:
    images = folder({"a": "a fox", "birds/b": "a kea"})
    listed = parquet_file(
        images.parent / "listed" / "metadata.parquet", [{"file_name": "a.png", "text": "a fox"}]
    ).parent
    (listed / "a.png").write_bytes(b"an image")
    for source in (
        images,
        listed,
        img2dataset(ROWS),
        webqa({30_000_000: ("a fox", b"0"), 10_000_001: ("a kea", b"1")}),
        coco({139: ["a fox", "a red fox"]}),
    ):
        address = upload(memory, source)
        here, there = open_source(source), open_source(address)
        assert type(here) is type(there)
        assert here.size() == there.size()
        assert list(there.entries()) == list(here.entries())
        assert list(there.entries(1)) == list(here.entries(1))
        assert list(there.left_over()) == list(here.left_over())
        assert len(list(there.identity())) == len(list(here.identity()))
        memory.rm("/set", recursive=True)


def test_a_single_file_in_a_store_is_read(memory: MemoryFileSystem, img2dataset: Callable[..., Path]) -> None:
    upload(memory, img2dataset(ROWS))
    (pair, _) = open_source("memory://set/00000.tar").entries()
    assert isinstance(pair, SourcePair)


def test_names_with_spaces_are_read_and_hidden_files_are_not(memory: MemoryFileSystem) -> None:
    for name in ("3.15\u202fPM", "v\xa013", "my  cat", "trailing "):
        memory.pipe_file(f"/set/{name}.png", b"an image")
        memory.pipe_file(f"/set/{name}.txt", b"a fox")
    memory.pipe_file("/set/._my  cat.png", b"x")
    taken = list(open_source("memory://set").entries())
    names = ["3.15\u202fPM", "my  cat", "trailing ", "v\xa013"]
    assert [entry.id for entry in taken if isinstance(entry, SourcePair)] == names
    assert len(taken) == 4


def test_file_urls_are_local(folder: Callable[[Mapping[str, str]], Path]) -> None:
    root = folder({"a": "a fox"})
    files, only = locate(f"file://{root}")
    assert isinstance(files, LocalFiles)
    assert (files.address, only) == (str(root), "")


@pytest.mark.parametrize("name", ["../secret.png", "/secret.png", "a/../../secret.png"])
def test_names_that_leave_a_store_are_refused(memory: MemoryFileSystem, name: str) -> None:
    memory.pipe_file("/secret.png", b"secret")
    memory.pipe_file("/set/a.png", b"a")
    with pytest.raises(RejectedError, match="path outside the source"):
        RemoteFiles(memory, "/set").read(name, 10)
    with pytest.raises(RejectedError, match="bad characters"):
        RemoteFiles(memory, "/set").read("a\x00.png", 10)


def test_an_unreachable_source_is_reported() -> None:
    with pytest.raises(InvalidArgument, match=r"source: there is nothing at memory://nowhere"):
        open_source("memory://nowhere")
    with pytest.raises(InvalidArgument, match=r"source: nosuch://x/y can't be reached"):
        open_source("nosuch://x/y")
    with pytest.raises(InvalidArgument, match=r"source: s3://bucket/x can't be reached: Install s3fs"):
        open_source("s3://bucket/x")


class Failing(MemoryFileSystem):  # type: ignore[misc]
    """A store whose connection breaks after a number of reads."""

    protocol = "failing"
    reads = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("failing:/")))

    def cat_file(self, path: str, **options: object) -> bytes:
        self.count()
        return bytes(super().cat_file(path, **options))

    def _open(self, path: str, mode: str = "rb", **options: object) -> io.BytesIO:
        return FailingFile(MemoryFileSystem.cat_file(self, path))

    @classmethod
    def count(cls) -> None:
        cls.reads -= 1
        if cls.reads < 0:
            raise ConnectionResetError("connection reset by peer")


class FailingFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        Failing.count()
        return super().read(size)


@pytest.mark.parametrize("reads", range(4))
def test_a_failing_store_ends_the_build(
    memory: MemoryFileSystem,
    folder: Callable[[Mapping[str, str]], Path],
    img2dataset: Callable[..., Path],
    reads: int,
) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    many = [{"image": bytes(20_000), "caption": "a fox"}] * 4
    for source in (folder({"a": "a fox", "b": "a kea"}), img2dataset(many)):
        upload(memory, source)
        entries = open_source("failing://set").entries()
        Failing.reads = reads
        taken: list[SourcePair | Rejected] = []
        with pytest.raises(Unavailable, match="connection reset by peer"):
            taken += entries
        assert not [entry for entry in taken if isinstance(entry, Rejected)]
        memory.rm("/set", recursive=True)


def test_a_link_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe")
    for name in ("loop.png", "pipe", "nothing"):
        with pytest.raises(RejectedError):
            LocalFiles(tmp_path).open(name)
