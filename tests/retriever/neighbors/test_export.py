import io
import json
import re
import signal
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from reimagen_common.errors import InvalidArgument
from reimagen_generator.training.data import ShardSource
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cli import app
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.folder_lock import LOCK
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.neighbors import export as exporting
from reimagen_retriever.neighbors.evaluation_sets import normalized, read_evaluation_set
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.shards import Options, ShardStats

ALL = Filters(keep_duplicates=True)
OPTIONS = Options(k=2, relevance="entity")
CAPTIONS = {
    "fox-1": "a red fox",
    "fox-2": "a red fox",
    "fox-3": "a red fox in the snow",
    "fox-4": "the red fox",
    "kea-1": "a kea",
    "kea-2": "a kea on a rock",
    "panda": "a giant panda",
}


def file(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colors(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return soft blots that differ for each seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def pairs() -> list[SourcePair]:
    """Return pairs: fox-2 is fox-1 in another file and size; fox-4 ranks last of the foxes by length."""
    images = {name: file(colors(seed)) for seed, name in enumerate(CAPTIONS)}
    images["fox-2"] = file(colors(0).resize((96, 64)), "JPEG", quality=60)
    return [
        SourcePair("here", name, text, images[name], f"pack#{name}", "MIT" if name < "k" else "CC-BY-4.0")
        for name, text in CAPTIONS.items()
    ]


class ListSource:
    """A source of given entries."""

    def __init__(self, items: list[SourcePair]) -> None:
        self.items = items

    def size(self) -> int:
        return len(self.items)

    def identity(self) -> Iterator[str]:
        yield str(len(self.items))

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        yield from self.items[skip:]

    def left_over(self) -> Iterator[Rejected]:
        return iter(())


def built(folder: Path, items: list[SourcePair]) -> Path:
    build(ListSource(items), folder)
    return folder


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("neighbors") / "kb", pairs())


def samples(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return all samples of a folder of shards by the ids of their pairs."""
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None
                found[key][extension] = content.read()
    return {json.loads(sample["json"])["id"]: sample for sample in found.values()}


def neighbors(folder: Path) -> dict[str, list[str]]:
    notes = [json.loads(sample["json"]) for sample in samples(folder).values()]
    return {note["id"]: [neighbor["id"] for neighbor in note["neighbors"]] for note in notes}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def test_neighbors_equal_the_services_hits_without_near_duplicates(kb: Path, tmp_path: Path) -> None:
    stats = export(kb, tmp_path / "out", OPTIONS)
    found = neighbors(tmp_path / "out")
    assert list(found) == list(CAPTIONS)
    base = KnowledgeBase.open(kb)
    same_image = {"fox-1": "fox-2", "fox-2": "fox-1"}
    for name, text in CAPTIONS.items():
        hits = [hit.pair.id for hit in base.index.search(text, 16, 0, "entity", ALL)]
        assert found[name] == [hit for hit in hits if hit not in {name, same_image.get(name)}][:2]
    base.close()
    assert "fox-3" in found["fox-1"]
    assert found["kea-1"] == ["kea-2"]
    assert found["panda"] == []
    assert stats == ShardStats(count=7, without_neighbors=1, with_all_neighbors=4, near_duplicates=2)


def test_a_sample_has_files_captions_and_sources(kb: Path, tmp_path: Path) -> None:
    export(kb, tmp_path / "out", OPTIONS)
    given = {pair.id: pair for pair in pairs()}
    found = samples(tmp_path / "out")
    for name, sample in found.items():
        note = json.loads(sample["json"])
        shown = [("", note), *((f"neighbor{rank}.", other) for rank, other in enumerate(note["neighbors"]))]
        for prefix, reported in shown:
            pair = given[reported["id"]]
            extension = "jpg" if pair.id == "fox-2" else "png"
            assert sample[f"{prefix}{extension}"] == pair.image
            assert sample[f"{prefix}txt"].decode() == pair.caption
            assert (reported["source"], reported["license"]) == (pair.source, pair.license)
        assert len(sample) == 1 + 2 * len(shown), name


def test_training_reads_the_shards(kb: Path, tmp_path: Path) -> None:
    export(kb, tmp_path / "out", Options(k=2, relevance="entity", size=16))
    source = ShardSource(tmp_path / "out")
    read = [source[index] for index in range(len(source))]
    assert [sample.caption for sample in read] == list(CAPTIONS.values())
    found = neighbors(tmp_path / "out")
    for sample, others in zip(read, found.values(), strict=True):
        assert sample.image.shape == (16, 16, 3)
        assert [neighbor.caption for neighbor in sample.neighbors] == [CAPTIONS[other] for other in others]
        assert all(neighbor.image.shape == (16, 16, 3) for neighbor in sample.neighbors)


def test_searches_go_deeper_past_many_near_duplicates(tmp_path: Path) -> None:
    copies = [
        SourcePair("here", f"{n:02d}", "a red fox", file(colors(0, (192, 128)), "JPEG", quality=50 + n))
        for n in range(40)
    ]
    other = SourcePair("here", "99", "a red fox", file(colors(1)))
    stats = export(built(tmp_path / "kb", [*copies, other]), tmp_path / "out", Options(k=1, relevance="entity"))
    found = neighbors(tmp_path / "out")
    assert all(found[copy.id] == ["99"] for copy in copies)
    assert found["99"] == ["00"]
    assert stats.near_duplicates == 40 * 39


def test_the_same_base_gives_the_same_bytes(kb: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export(kb, tmp_path / name, Options(k=2, relevance="entity", size=80))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert read_manifest(built(tmp_path / "kb", pairs())).folder != read_manifest(kb).folder
    export(tmp_path / "kb", tmp_path / "three", Options(k=2, relevance="entity", size=80))
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


_KILLED_IN_ITS_SECOND_SHARD = """
import os, signal, sys
from pathlib import Path
from reimagen_retriever.neighbors import export as exporting
from reimagen_retriever.neighbors import shards

class Dying(shards.NeighborFinder):
    def find(self, pairs):
        if pairs[0].id == "fox-4":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().find(pairs)

exporting.SHARD_PAIRS, shards._BATCH, shards.NeighborFinder = 3, 1, Dying
exporting.export(Path(sys.argv[1]), Path(sys.argv[2]), shards.Options(k=2, relevance="entity"))
"""


def test_a_killed_export_resumes_after_its_last_complete_shard(
    kb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED_IN_ITS_SECOND_SHARD, kb, tmp_path / "out"], check=False)
    assert killed.returncode == -signal.SIGKILL
    *whole, unfinished = sorted(contents(tmp_path / "out"), key=lambda name: name.endswith(".part"))
    assert set(whole) == {"neighbors.json", "00000.tar", "00000_stats.json"}
    assert re.fullmatch(r"00001\.[0-9a-f]{8}\.part", unfinished)
    first = (tmp_path / "out/00000.tar").stat()
    monkeypatch.setattr(exporting, "SHARD_PAIRS", 3)
    resumed = export(kb, tmp_path / "out", OPTIONS)
    assert (tmp_path / "out/00000.tar").stat().st_ino == first.st_ino
    assert export(kb, tmp_path / "whole", OPTIONS) == resumed
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(list((tmp_path / "out").glob("*.tar"))) == 3


def test_a_broken_image_is_reported_counted_and_never_a_neighbor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = built(tmp_path / "kb", pairs())
    base = KnowledgeBase.open(folder)
    kea = base.index.get("kea-2")
    base.close()
    assert kea is not None
    with (folder / read_manifest(folder).shards_folder / kea.shard).open("r+b") as shard:
        shard.seek(kea.offset)
        shard.write(b"no image")
    stats = export(folder, tmp_path / "out", OPTIONS)
    assert "left out kea-2: broken image (" in capsys.readouterr().err
    assert "kea-2" not in samples(tmp_path / "out")
    assert neighbors(tmp_path / "out")["kea-1"] == []
    assert (stats.count, stats.broken, stats.without_neighbors) == (6, 1, 2)
    assert [path.name for path in (tmp_path / "out").glob("*.part")] == []


def test_a_folder_with_other_files_is_not_touched(kb: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/holiday.jpg").write_bytes(b"")
    with pytest.raises(InvalidArgument, match=r"OUT: .* holds files other than shards"):
        export(kb, tmp_path / "out", OPTIONS)
    assert set(contents(tmp_path / "out")) == {"holiday.jpg"}
    export(kb, tmp_path / "shards", OPTIONS)
    with pytest.raises(InvalidArgument, match=r"OUT: .* holds shards made from k 2, not 3; name a new folder"):
        export(kb, tmp_path / "shards", Options(k=3, relevance="entity"))
    other = built(tmp_path / "kb", pairs()[1:])
    with pytest.raises(InvalidArgument, match="holds shards made from revision "):
        export(other, tmp_path / "shards", OPTIONS)


def test_a_base_with_an_evaluation_sets_pairs_is_refused(kb: Path, tmp_path: Path) -> None:
    copied = SourcePair("here", "x", "something else", file(colors(0), "WEBP", quality=80))
    named = SourcePair("here", "kea-1", "other words", file(colors(100)))
    said = SourcePair("here", "y", "A Kea, on a ROCK!", file(colors(101)))
    cases = [
        (copied, r"2 by image \(fox-1 shows x, fox-2 shows x\)"),
        (named, r"1 by id \(kea-1\)"),
        (said, r"1 by caption \(kea-2: a kea on a rock\)"),
    ]
    for number, (pair, message) in enumerate(cases):
        excluded = read_evaluation_set(built(tmp_path / f"{number}", [pair]))
        with pytest.raises(InvalidArgument, match=f"exclude: .* {message}. Build it without them"):
            export(kb, tmp_path / "out", OPTIONS, [excluded])
    assert not (tmp_path / "out").exists()


def test_an_evaluation_set_can_be_captions(kb: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a unicorn\n\nthe Giant panda\n")
    export(kb, tmp_path / "out", OPTIONS, [read_evaluation_set(captions)])
    with pytest.raises(InvalidArgument, match=r"OUT: .* holds shards made from excluded"):
        export(kb, tmp_path / "out", OPTIONS)
    captions.write_text("a unicorn\nA giant  PANDA.\n")
    result = run("neighbors", kb, tmp_path / "other", "--exclude", captions)
    assert result.exit_code == 2
    assert f"the evaluation set {captions}: 1 by caption (panda: a giant panda)" in result.stderr
    captions.write_text("\n")
    with pytest.raises(InvalidArgument, match="holds no caption"):
        read_evaluation_set(captions)
    with pytest.raises(InvalidArgument, match=r"exclude: cannot read"):
        read_evaluation_set(tmp_path / "nowhere")
    with pytest.raises(InvalidArgument, match=r"exclude: .* is not a complete knowledge base"):
        read_evaluation_set(tmp_path)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_reports_what_it_wrote(kb: Path, tmp_path: Path) -> None:
    result = run("neighbors", kb, tmp_path / "out", "-k", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{tmp_path}/out: 7 pairs, 6 of them with 1 neighbors",
        "  1 without any neighbor",
        "  2 near-duplicates excluded as neighbors",
        "  0 left out because their images are broken",
    ]
    assert run("neighbors", tmp_path / "nowhere", tmp_path / "out").exit_code == 2
    for bad in (["-k", "0"], ["--size", "4"], ["--relevance", "some"]):
        assert run("neighbors", kb, tmp_path / "out", *bad).exit_code == 2


def test_captions_are_compared_by_their_words() -> None:
    assert normalized(" A  Kea,\non a ROCK!") == normalized("a kea on a rock") == "a kea on a rock"
    assert normalized("ﬁre") == "fire"
    assert normalized("...") == ""
