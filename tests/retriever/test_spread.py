"""Distributed builds and neighbors with a real Ray cluster on this machine."""

import io
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cli import app
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.ingest.build import BuildOptions, BuildReport, build
from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.ingest.journal import Journal, Record
from reimagen_retriever.ingest.shard_work import UNFINISHED, NumberedShard, ShardWork, write_shard
from reimagen_retriever.knowledge_base.folder_lock import LOCK, Holder
from reimagen_retriever.knowledge_base.image import image_to_store
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.knowledge_base.sources.webdataset import WebDatasetSource
from reimagen_retriever.live.writer import LiveWriter, Put
from reimagen_retriever.maintenance.snapshot import snapshot
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.neighbors import export as exporting
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.shards import Options
from tests.waiting import LoggedProcess

OPTIONS = Options(k=2, relevance="entity")
ALL = Filters(keep_duplicates=True)
THINGS = ("fox", "kea", "panda", "owl", "crab")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start a cluster of two cores on this machine, and return its address."""
    with (
        pytest.MonkeyPatch.context() as patched,
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
    ):
        patched.setenv("RAY_worker_niceness", "0")  # Of 15, on a busy machine a test would take minutes.
        patched.setenv("RAY_AUTH_MODE", "token")
        patched.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        command = "start --head --block --port=0 --num-cpus=2 --include-dashboard=false --disable-usage-stats"
        small = [f"--temp-dir={folder}", "--object-store-memory=100000000"]
        ray = Path(sys.executable).with_name("ray")
        with LoggedProcess([ray, *command.split(), *small], stdout=True) as process:
            yield process.wait_for_line(r"--address='([^']+)'")[1]
            process.popen.terminate()
            process.popen.wait(60)


def picture(seed: int) -> bytes:
    """Return soft blots that differ for each seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def write_source(folder: Path, shards: Sequence[Sequence[tuple[str, bytes, str]]]) -> Path:
    """Write WebDataset shards of (caption, image, id)."""
    folder.mkdir()
    for number, samples in enumerate(shards):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for position, (text, image, identifier) in enumerate(samples):
                note = f'{{"id": "{identifier}", "license": "{"MIT" if position % 2 else ""}"}}'
                for kind, data in (("jpg", image), ("txt", text.encode()), ("json", note.encode())):
                    member = tarfile.TarInfo(f"{number:05d}{position:04d}.{kind}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five shards: one without valid pairs, and one with images and an id of another shard."""
    whole = [
        [(f"a {thing} number {shard}", picture(10 * shard + n), f"{thing}-{shard}") for n, thing in enumerate(THINGS)]
        for shard in range(4)
    ]
    again = Image.open(io.BytesIO(picture(1))).resize((96, 72))
    file = io.BytesIO()
    again.save(file, "PNG")
    whole[2] += [("the kea of the first shard", file.getvalue(), "kea-again"), ("a fox", picture(99), "fox-0")]
    whole[3].append(("a broken image", b"GIF89a", "broken"))
    return write_source(
        tmp_path_factory.mktemp("spread") / "source", [*whole[:1], [(" ", picture(98), "e")], *whole[1:]]
    )


def build_of(source: Path, kb: Path, ray: str | None = None) -> BuildReport:
    return build(open_source(source), kb, BuildOptions(), ray)


def pairs_of(kb: Path) -> list[StoredPair]:
    base = KnowledgeBase.open(kb)
    pairs = [base.index.pair(document) for document in base.index.in_order()]
    base.close()
    return pairs


def without_places(pairs: Sequence[StoredPair]) -> list[StoredPair]:
    return [pair.model_copy(update={"shard": "", "offset": 0}) for pair in pairs]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


@contextmanager
def killing_a_worker() -> Iterator[list[int]]:
    """Kill the first process that works on a shard, and return which it was."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while not (killed or ended.wait(0.005)):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if path.read_bytes().startswith(b"ray::write_shard"):
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        killed.append(int(path.parent.name))
                        return
                except (FileNotFoundError, ProcessLookupError):
                    continue

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def spread(cluster: str, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    """Build a base with the cluster, and return it with its report."""
    kb = tmp_path_factory.mktemp("spread") / "kb"
    return kb, build_of(source, kb, cluster)


def test_a_distributed_build_equals_that_of_one_process(
    spread: tuple[Path, BuildReport], source: Path, tmp_path: Path
) -> None:
    kb, report = spread
    one = build_of(source, tmp_path / "one")
    assert without_places(pairs_of(kb)) == without_places(pairs_of(tmp_path / "one"))
    assert [shard.name for shard in report.manifest.shards] == ["00000.tar", "00002.tar", "00003.tar", "00004.tar"]
    for facts in ("pairs", "licenses", "rejected"):
        assert getattr(report.manifest, facts) == getattr(one.manifest, facts)
    assert report.manifest.rejected == {"duplicate id": 1, "broken image": 1, "empty caption": 1}
    assert {(r.reason, r.detail) for r in report.rejected} == {(r.reason, r.detail) for r in one.rejected}
    assert report.duplicates == one.duplicates == 1
    assert verify(kb)[1] == []
    bases = [KnowledgeBase.open(folder) for folder in (tmp_path / "one", kb)]
    for query in ("a kea of the first shard", "fox number 3", "crab"):
        found = [[(hit.pair.id, hit.score) for hit in base.index.search(query, 9, 0, "any", ALL)] for base in bases]
        assert found[0] == found[1] != []
    for base in bases:
        base.close()


def test_a_distributed_build_can_be_added_to(spread: tuple[Path, BuildReport], tmp_path: Path) -> None:
    snapshot(spread[0], tmp_path / "kb")
    with LiveWriter(tmp_path / "kb", Holder(work="add")) as writer:
        image = picture(500)
        writer.apply([Put(SourcePair("here", "new", "a new pair", image), image_to_store(image)[1])])
    assert pairs_of(tmp_path / "kb")[-1].shard == "00005.tar"
    assert verify(tmp_path / "kb")[1] == []


def test_distributed_neighbors_equal_those_of_one_process(
    cluster: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_of(source, tmp_path / "kb")
    monkeypatch.setattr(exporting, "SHARD_PAIRS", 3)
    stats = export(tmp_path / "kb", tmp_path / "one", OPTIONS)
    with killing_a_worker() as killed:
        assert export(tmp_path / "kb", tmp_path / "spread", OPTIONS, ray=cluster) == stats
    assert killed
    assert contents(tmp_path / "spread") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "one")) == 1 + 2 * 7


def test_an_interrupted_distributed_build_resumes(
    spread: tuple[Path, BuildReport], cluster: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(journal: Journal, record: Record) -> None:
        if len(journal) == 3:
            raise KeyboardInterrupt
        append(journal, record)

    append = Journal.append
    monkeypatch.setattr(Journal, "append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_of(source, tmp_path / "kb", cluster)
    monkeypatch.undo()
    (first,) = (tmp_path / "kb").glob("data-*/shards/00000.tar")
    before = first.stat().st_ino
    report = build_of(source, tmp_path / "kb", cluster)
    assert first.stat().st_ino == before
    assert report.manifest.revision == spread[1].manifest.revision
    assert report.manifest.shards == spread[1].manifest.shards


def test_a_cluster_with_a_killed_worker_builds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    shards = [
        [(f"a {n} of {shard}", picture(1000 * shard + n), f"{shard}-{n}") for n in range(200)] for shard in range(3)
    ]
    # A large image keeps a worker busy for long enough to be seen.
    large = io.BytesIO()
    Image.new("RGB", (6_000, 6_000)).save(large, "PNG")
    for number, shard in enumerate(shards):
        shard.append(("a large one", large.getvalue(), f"{number}-large"))
    source = write_source(tmp_path / "source", shards)
    command = [sys.executable, "-m", "reimagen_retriever.cli", "build", str(source), str(tmp_path / "kb")]
    with killing_a_worker() as killed:
        ran = subprocess.run([*command, "--ray", "local"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert killed
    assert f"{tmp_path / 'kb'}: 603 pairs" in ran.stdout
    build_of(source, tmp_path / "one")
    assert without_places(pairs_of(tmp_path / "kb")) == without_places(pairs_of(tmp_path / "one"))
    assert verify(tmp_path / "kb")[1] == []
    assert not (tmp_path / "kb" / read_manifest(tmp_path / "kb").folder / UNFINISHED).exists()


_JAVA_BESIDE_RAY = """
import ctypes, sys
from reimagen_retriever.cluster import JAVA_SIGNALS, connected
from reimagen_retriever.index.jvm import start_jvm

def handlers():
    buffers = [ctypes.create_string_buffer(256) for _ in JAVA_SIGNALS]
    for number, buffer in zip(JAVA_SIGNALS, buffers):
        ctypes.CDLL(None).sigaction(number, None, buffer)
    return [buffer.raw[:8] for buffer in buffers]

before = handlers()
start_jvm()
javas = handlers()
assert all(mine != first for mine, first in zip(javas, before))
with connected(sys.argv[1]):
    assert handlers() == javas
assert handlers() == javas
"""


def test_ray_keeps_the_signals_that_java_needs(cluster: str) -> None:
    assert subprocess.run([sys.executable, "-c", _JAVA_BESIDE_RAY, cluster], check=False).returncode == 0


def test_without_ray_a_message_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    reported = CliRunner().invoke(app, ["build", str(source), str(tmp_path / "kb"), "--ray", "local"])
    assert (reported.exit_code, reported.stderr) == (
        2,
        "error: ray: Ray is not installed: pip install 'reimagen-retriever[ray]'\n",
    )


def test_an_address_without_a_cluster_is_reported_soon(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"ray: no Ray cluster answers at 127\.0\.0\.1:1: "):
        build_of(source, tmp_path / "kb", "127.0.0.1:1")
    with pytest.raises(InvalidArgument, match=r"ray: must be host:port, .*, got 'auto', or be local"):
        build_of(source, tmp_path / "kb", "auto")


def test_a_source_without_shards_is_not_distributed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(1))
    (tmp_path / "a.txt").write_text("an image")
    with pytest.raises(InvalidArgument, match=r"ray: requires WebDataset shards"):
        build_of(tmp_path, tmp_path / "kb", "local")


def test_a_machine_without_the_shared_folders_ends_the_build(source: Path, tmp_path: Path) -> None:
    files = open_source(source)
    assert isinstance(files, WebDatasetSource)
    work = ShardWork(files, tmp_path, SourceFilters())
    item = NumberedShard(0, "00000.tar", files.stamps("00000.tar"))
    with pytest.raises(Unavailable, match=r"does not exist on .*: all machines must share it"):
        write_shard(work, item)
    (tmp_path / UNFINISHED).mkdir()
    with pytest.raises(Unavailable, match=r"00000\.tar is not the same on .*: all machines must share the source"):
        write_shard(work, NumberedShard(0, "00000.tar", ["00000.tar 1 2"]))
    with pytest.raises(Unavailable, match=r"unreadable file.*: all machines must share the source"):
        write_shard(work, NumberedShard(0, "00009.tar", ["00009.tar 1 2"]))
    assert write_shard(work, item).record.entries == len(THINGS)
    assert list((tmp_path / UNFINISHED).iterdir()) == []
