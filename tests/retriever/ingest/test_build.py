import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument, NotFound, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.ingest.build import BuildOptions, build
from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.folder_lock import Holder, locked
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source
from tests.waiting import wait_until

MakeFolder = Callable[[Mapping[str, str]], Path]
MakeImage = Callable[..., bytes]
MakeBase = Callable[..., Path]


@dataclass
class ListSource:
    """A source of given entries that raises given errors."""

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

    def left_over(self) -> Iterator[Rejected]:
        return iter(())


@pytest.fixture
def fox(make_image: MakeImage) -> SourcePair:
    return SourcePair("here", "fox", "a fox", make_image(), "pack@1", "MIT")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_pair_is_stored_and_found(tmp_path: Path, make_image: MakeImage) -> None:
    kinds = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
    images = {kind: make_image("blue", size=(9, 7), kind=kind) for kind in kinds}
    pairs = [
        SourcePair("here", f"id {kind}", f"  a {kind}\n image ", image, " from here ", "MIT")
        for kind, image in images.items()
    ]
    report = build(ListSource([*pairs]), tmp_path / "kb")
    base = KnowledgeBase.open(tmp_path / "kb")
    assert base.manifest == report.manifest
    assert (report.manifest.pairs, report.manifest.licenses, report.manifest.rejected) == (3, {"MIT": 3}, {})
    for kind, media_type in kinds.items():
        (hit,) = base.index.search(f"the {kind}", 1, 0, "any")
        pair = hit.pair
        assert (pair.id, pair.caption) == (f"id {kind}", f"a {kind} image")
        assert (pair.media_type, pair.width, pair.height) == (media_type, 9, 7)
        assert (pair.source, pair.license) == ("from here", "MIT")
        assert base.images.read(pair) == images[kind]
    base.close()


def test_rejections_are_reported_with_locations_and_counted(
    tmp_path: Path, fox: SourcePair, make_image: MakeImage
) -> None:
    bad: list[SourcePair | Rejected | BaseException] = [
        Rejected("line 1", "no image", "why"),
        SourcePair("line 2", "a", " \n", make_image()),
        SourcePair("line 3", "b", "a kea", make_image()[:40]),
        SourcePair("line 4", "c", "a kea", b"GIF89a"),
        SourcePair("line 5", "d", "a k\x00ea", make_image()),
        SourcePair("line 6", "fox", "another fox", make_image()),
        SourcePair("line 7", "", "a kea", make_image()),
        SourcePair("line 8", "e", "a kea", make_image(), license="\ud800"),
    ]
    report = build(ListSource([fox, *bad]), tmp_path / "kb")
    assert [entry.location for entry in report.rejected] == [f"line {number}" for number in range(1, 9)]
    assert report.manifest.pairs == 1
    assert report.manifest.rejected == {
        "broken image": 2,
        "bad characters": 2,
        "no image": 1,
        "empty caption": 1,
        "duplicate id": 1,
        "bad id": 1,
    }


def test_a_rejected_pair_does_not_reserve_its_id(tmp_path: Path, fox: SourcePair, make_image: MakeImage) -> None:
    report = build(ListSource([SourcePair("here", "fox", "a fox", b"broken"), fox]), tmp_path / "kb")
    assert report.manifest.pairs == 1
    assert report.manifest.rejected == {"broken image": 1}


def test_the_revision_depends_only_on_the_content(tmp_path: Path, fox: SourcePair, make_image: MakeImage) -> None:
    def revision(*pairs: SourcePair) -> str:
        return build(ListSource([*pairs]), tmp_path / "kb").manifest.revision

    kea = SourcePair("there", "kea", "a kea", make_image())
    same = revision(fox, kea)
    assert revision(fox, kea) == same
    others = [
        revision(fox),
        revision(kea, fox),
        revision(fox, SourcePair("", "kea", "a kea", make_image("blue"))),
        revision(fox, SourcePair("", "kea", "the kea", make_image())),
        revision(fox, SourcePair("", "kea", "a kea", make_image(), license="MIT")),
    ]
    assert len({same, *others}) == 6


@pytest.mark.parametrize(
    ("failure", "reported"),
    [
        (OSError(28, "No space left on device"), Unavailable),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("x"), RuntimeError),
    ],
)
def test_a_failed_build_keeps_the_old_base(
    tmp_path: Path, base: MakeBase, fox: SourcePair, failure: BaseException, reported: type[BaseException]
) -> None:
    with pytest.raises(reported):
        build(ListSource([fox, failure]), tmp_path / "new")
    assert names(tmp_path / "new") == {".lock"}
    folder = base({"a": "a kea"})
    before = read_manifest(folder)
    with pytest.raises(reported):
        build(ListSource([fox, failure]), folder)
    assert read_manifest(folder) == before
    assert names(folder) == {"manifest.json", ".lock", before.folder}
    assert KnowledgeBase.open(folder).index.search("kea", 1, 0, "any")


def test_a_build_without_pairs_fails_and_says_why(tmp_path: Path, base: MakeBase) -> None:
    folder = base({"a": "a kea"})
    before = read_manifest(folder)
    with pytest.raises(InvalidArgument, match=r"source: it has no valid pair \(no image: 2\)"):
        build(ListSource([Rejected("1", "no image"), Rejected("2", "no image")]), folder)
    with pytest.raises(InvalidArgument, match=r"source: it has no valid pair \(it is empty\)"):
        build(ListSource([]), folder)
    assert read_manifest(folder) == before


def test_two_concurrent_builds_do_not_mix(base: MakeBase, fox: SourcePair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reimagen_retriever.ingest.build.LOCK_WAIT_SECONDS", 0)
    folder = base({"a": "a kea"})
    with (
        locked(folder, Holder(work="build")),
        pytest.raises(Unavailable, match=rf"kb is being written to by build \(pid {os.getpid()} on "),
    ):
        build(ListSource([fox]), folder)
    assert build(ListSource([fox]), folder).manifest.pairs == 1


def test_the_analysis_is_stored_and_part_of_the_revision(tmp_path: Path, fox: SourcePair) -> None:
    plain = build(ListSource([fox]), tmp_path / "plain").manifest
    german = build(
        ListSource([fox]), tmp_path / "german", BuildOptions(analysis=Analysis(language="de", k1=1.2, b=0.75))
    ).manifest
    assert plain.analysis == Analysis()
    assert read_manifest(tmp_path / "german").analysis == Analysis(language="de", k1=1.2, b=0.75)
    assert plain.revision != german.revision
    base = KnowledgeBase.open(tmp_path / "german")
    assert base.index.terms("die Häuser") == ["haus"]
    base.close()


def drawing(seed: int, kind: str = "PNG", **options: int) -> bytes:
    """Return soft blots that differ for each seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def test_near_duplicates_are_marked_or_dropped(tmp_path: Path) -> None:
    pairs = [
        SourcePair("1", "a", "a fox", drawing(0)),
        SourcePair("2", "b", "a kea", drawing(1)),
        SourcePair("3", "c", "the fox", drawing(0, "JPEG", quality=70)),
        SourcePair("4", "d", "fox again", drawing(0, "JPEG", quality=50)),
        SourcePair("5", "c", "the id is free where the other is dropped", drawing(2)),
    ]
    marked = build(ListSource([*pairs]), tmp_path / "marked")
    assert (marked.duplicates, marked.manifest.pairs, marked.manifest.rejected) == (2, 4, {"duplicate id": 1})
    base = KnowledgeBase.open(tmp_path / "marked")
    found = {name: base.index.get(name) for name in "abcd"}
    assert {name: pair.duplicate_of for name, pair in found.items() if pair} == {"a": "", "b": "", "c": "a", "d": "a"}
    base.close()
    dropped = build(ListSource([*pairs]), tmp_path / "dropped", BuildOptions(drop_duplicates=True))
    assert (dropped.duplicates, dropped.manifest.pairs, dropped.manifest.rejected) == (0, 3, {"near-duplicate": 2})
    assert [(rejected.location, rejected.detail) for rejected in dropped.rejected] == [("3", "of a"), ("4", "of a")]


def test_filters_count_rejected_pairs(tmp_path: Path, make_image: MakeImage) -> None:
    measures = [(0.1, 0.1, 0.3), (0.9, 0.1, 0.3), (0.1, 0.9, 0.3), (0.1, 0.1, 0.2), (None, 0.1, 0.3), (0.1, None, None)]
    pairs = [
        SourcePair("here", f"{number}", "a fox", make_image(), "", "", unsafe, "", watermark, similarity)
        for number, (unsafe, watermark, similarity) in enumerate(measures)
    ]
    small = SourcePair("here", "small", "a fox", make_image(size=(8, 5)), "", "", 0.0, "", 0.0, 1.0)
    filters = SourceFilters(max_unsafe=0.5, max_watermark=0.8, min_similarity=0.25, min_size=6)
    manifest = build(ListSource([*pairs, small]), tmp_path / "kb", BuildOptions(filters=filters)).manifest
    assert manifest.pairs == 1
    assert manifest.rejected == {
        "filter: unsafe": 1,
        "filter: watermark": 1,
        "filter: similarity": 1,
        "filter: unsafe unknown": 1,
        "filter: watermark unknown": 1,
        "filter: too small": 1,
    }
    assert build(ListSource([*pairs, small]), tmp_path / "all").manifest.pairs == 7


def test_reasons_with_unique_details_are_counted_together(tmp_path: Path, fox: SourcePair) -> None:
    entries = [Rejected("here", f"failed to download: {number}") for number in range(150)]
    rejected = build(ListSource([fox, *entries, entries[0]]), tmp_path / "kb").manifest.rejected
    assert rejected["other reasons"] == 50
    assert rejected["failed to download: 0"] == 2
    assert sum(rejected.values()) == 151


class Counting(ListSource):
    """A source that counts how many of its pairs were read."""

    asked = 0

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        for entry in super().entries(skip):
            self.asked += 1
            yield entry


def many() -> list[SourcePair | Rejected | BaseException]:
    """Return pairs with a near-duplicate, a duplicate id and a broken image in each dozen."""
    entries: list[SourcePair | Rejected | BaseException] = []
    for number in range(60):
        image = drawing(number - 5, "JPEG", quality=60) if number % 12 == 7 else drawing(number)
        name = f"{number - 1}" if number % 12 == 3 else f"{number}"
        entries.append(SourcePair(f"{number}", name, f"text {number}", b"broken" if number % 12 == 9 else image))
    return entries


@pytest.mark.parametrize("drop_duplicates", [False, True])
@pytest.mark.parametrize("at", [30, 31, 45, 60])
def test_an_interrupted_build_resumes_to_the_same_base(tmp_path: Path, at: int, *, drop_duplicates: bool) -> None:
    options = BuildOptions(pairs_per_shard=7, drop_duplicates=drop_duplicates)
    whole = build(ListSource(many()), tmp_path / "whole", options)
    failing = many()
    failing.insert(at, Unavailable("the store does not answer"))
    with pytest.raises(Unavailable):
        build(Renamed(failing), tmp_path / "kb", options)
    (unfinished,) = (tmp_path / "kb").glob("data-*")
    source = Renamed(many())
    resumed = build(source, tmp_path / "kb", options)
    assert resumed.manifest.folder == unfinished.name
    assert source.asked <= 60 - at + 16 + 7 + 3  # What was waiting, the shard that was open, and what it left out.
    assert resumed.manifest.model_copy(update={"created": whole.manifest.created, "folder": whole.manifest.folder}) == (
        whole.manifest
    )
    assert resumed.duplicates == whole.duplicates
    assert names(tmp_path / "kb") == {"manifest.json", ".lock", unfinished.name}
    assert names(unfinished) == {"shards", "lucene", "fingerprints"}


class Renamed(Counting):
    """A source with a fixed name for any entries."""

    def identity(self) -> Iterator[str]:
        yield "the same"


def test_another_source_or_option_starts_over(tmp_path: Path) -> None:
    options = BuildOptions(pairs_per_shard=7)
    failing = [*many()[:30], Unavailable("the store does not answer")]
    for source, changed in (
        (ListSource(many()), options),
        (Renamed(many()), options.model_copy(update={"drop_duplicates": True})),
        (Renamed(many()), options.model_copy(update={"filters": SourceFilters(min_size=1)})),
    ):
        with pytest.raises(Unavailable):
            build(Renamed(failing), tmp_path / "kb", options)
        current = read_manifest(tmp_path / "kb").folder if (tmp_path / "kb" / "manifest.json").exists() else ""
        (unfinished,) = {path.name for path in (tmp_path / "kb").glob("data-*")} - {current}
        assert build(source, tmp_path / "kb", changed).manifest.folder != unfinished
        assert not (tmp_path / "kb" / unfinished).exists()


_KILLED = """
import sys, time
from pathlib import Path
from reimagen_retriever.ingest.build import BuildOptions, build
from reimagen_retriever.knowledge_base.sources import open_source

build(open_source(sys.argv[1]), Path(sys.argv[2]), BuildOptions(pairs_per_shard=7))
"""


def test_killed_builds_resume_to_the_same_base(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = []
    for entry in many():
        assert isinstance(entry, SourcePair)
        (source / f"{entry.location}.png").write_bytes(entry.image)
        rows.append(json.dumps({"image": f"{entry.location}.png", "text": entry.caption, "id": entry.id}))
    (source / "captions.jsonl").write_text("\n".join(rows))
    options = BuildOptions(pairs_per_shard=7)
    whole = build(open_source(source), tmp_path / "whole", options).manifest
    for shards in (1, 3, 6):
        process = subprocess.Popen([sys.executable, "-c", _KILLED, source, tmp_path / "kb"])
        try:
            wait_for_records(tmp_path / "kb", shards, process)
        finally:
            process.kill()
            process.wait()
        with pytest.raises(NotFound):
            read_manifest(tmp_path / "kb")
    resumed = build(open_source(source), tmp_path / "kb", options).manifest
    assert (resumed.revision, resumed.shards, resumed.rejected) == (whole.revision, whole.shards, whole.rejected)


def wait_for_records(folder: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    def recorded() -> bool:
        assert process.poll() is None, "it ended before it was killed"
        return len(list(folder.glob("data-*/journal/*.json"))) >= count

    wait_until(recorded)
