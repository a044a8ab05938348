import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

MakeFolder = Callable[[Mapping[str, str]], Path]


def entries(folder: Path) -> list[SourcePair | Rejected]:
    return list(open_source(folder).entries())


def left_over(folder: Path) -> list[tuple[str, str]]:
    return [(left.location, left.reason) for left in open_source(folder).left_over()]


def test_images_with_text_files_are_read(folder: MakeFolder) -> None:
    root = folder({"b": "a panda", "birds/kea.v2": "a kea", "a": "a fox"})
    found = [entry for entry in entries(root) if isinstance(entry, SourcePair)]
    assert [(pair.id, pair.caption) for pair in found] == [("a", "a fox"), ("b", "a panda"), ("birds/kea.v2", "a kea")]
    assert found[0].image == (root / "a.png").read_bytes()
    assert open_source(root).size() == 3


def test_a_missing_or_unreadable_caption_is_reported(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": "", "c": "a fox"})
    (root / "a.txt").unlink()
    (root / "b.txt").write_bytes(b"\xff\xfe\x00")
    reasons = [entry.reason for entry in entries(root) if isinstance(entry, Rejected)]
    assert reasons == ["no caption", "bad characters"]


def test_all_other_files_in_a_folder_are_reported(folder: MakeFolder, tmp_path: Path) -> None:
    root = folder({"a": "a fox", "birds/b": "a kea"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "birds" / "gone.png").symlink_to("nothing.png")
    (root / "birds" / "gone.txt").write_text("a gone kea")
    (root / "more").symlink_to(elsewhere)
    (root / "again").symlink_to(root / "birds")
    hidden = (".hidden.png", "birds/._b.png", ".cache/c.png", "Thumbs.db")
    for name in ("notes.pdf", "lost.txt", "birds/film.mp4", *hidden):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    taken = [(entry.location, getattr(entry, "reason", "")) for entry in entries(root)]
    assert taken == [("a.png", ""), ("birds/b.png", ""), ("birds/gone.png", "unreadable file")]
    assert left_over(root) == [
        ("again", "linked folder"),
        ("more", "linked folder"),
        ("birds/film.mp4", "not an image"),
        ("lost.txt", "caption without an image"),
        ("notes.pdf", "not an image"),
    ]
    assert len(list(open_source(root).identity())) == 9


def test_images_with_every_suffix_in_any_case_are_read(folder: MakeFolder, make_image: Callable[..., bytes]) -> None:
    root = folder({})
    root.mkdir()
    endings = [".JPG", ".jpe", ".Jfif", ".tiff", ".gif", ".avif", ".bmp", ".jp2", ".heic", ".svg"]
    for number, ending in enumerate(endings):
        (root / f"{number}{ending}").write_bytes(make_image())
        (root / f"{number}{'.TXT' if number % 2 else '.txt'}").write_text("a fox")
    assert [entry.id for entry in entries(root) if isinstance(entry, SourcePair)] == list(map(str, range(10)))
    assert left_over(root) == []


def test_an_unreadable_folder_is_reported(folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder({"a": "a fox", "locked/b": "a kea"})
    scan = os.scandir

    def refusing(path: str) -> Any:  # Tests can run as root, who can read all folders.
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert list(open_source(root).left_over()) == [Rejected("locked", "unreadable folder", "Permission denied")]


def test_a_caption_in_another_encoding_is_named(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": ""})
    (root / "a.txt").write_text("a fox in the snow", encoding="utf-16")
    (root / "b.txt").write_bytes("ein Fuchs".encode("utf-16-le"))
    details = [entry.detail for entry in entries(root) if isinstance(entry, Rejected)]
    assert details == ["a.txt is UTF-16; save it as UTF-8", "b.txt is UTF-16; save it as UTF-8"]


def test_the_file_layout_of_img2dataset_is_read(folder: MakeFolder, parquet_file: Callable[..., Path]) -> None:
    root = folder({"00000/000000000": "a fox", "00000/000000002": "", "00001/000010000": "a panda"})
    (root / "00000" / "000000002.txt").unlink()
    notes = {"url": "https://a", "LICENSE": "MIT", "punsafe": 0.25, "caption": "a red fox", "status": "success"}
    (root / "00000" / "000000000.json").write_text(json.dumps(notes))
    (root / "00000" / "000000002.json").write_text(json.dumps({"caption": "a kea", "url": "https://c"}))
    (root / "00001" / "000010000.json").write_text("[")
    (root / "00000_stats.json").write_text('{"count": 3}')
    rows = [
        {"key": "000000000", "status": "success", "pwatermark": 0.5},
        {"key": "000000001", "status": "failed_to_download", "error_message": "404"},
        {"key": "000000002", "status": "success", "punsafe": 0.75},
        {"key": "000000003", "status": "success", "punsafe": 0.75},
    ]
    parquet_file(root / "00000.parquet", rows)
    everything = fox, kea, failed, missing, broken = entries(root)
    assert isinstance(fox, SourcePair)
    assert (fox.id, fox.caption, fox.source, fox.license) == ("00000/000000000", "a fox", "https://a", "MIT")
    assert (fox.unsafe, fox.watermark) == (0.25, 0.5)
    assert isinstance(kea, SourcePair)
    assert (kea.caption, kea.source, kea.unsafe) == ("a kea", "https://c", 0.75)
    assert failed == Rejected("00000.parquet:2", "failed to download: 404")
    assert (missing.location, broken.location) == ("00000/000000003", "00001/000010000.png")
    assert isinstance(broken, Rejected)
    assert broken.reason == "broken json"
    assert [list(open_source(root).entries(skip)) for skip in range(6)] == [[*everything[skip:]] for skip in range(6)]
    assert left_over(root) == []


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
def test_a_list_in_json_lines_is_read(folder: MakeFolder, name: str) -> None:
    root = folder({"a": "", "b": ""})
    rows = [
        {"file_name": "a.png", "TEXT": "a fox", "LICENSE": "MIT", "URL": "https://example.org/a", "id": 7},
        {"image": "b.png", "caption": "a panda", "license": None, "width": 3},
    ]
    (root / name).write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = entries(root)
    image, other = ((root / f"{picture}.png").read_bytes() for picture in "ab")
    assert first == SourcePair(f"{name}:1", "7", "a fox", image, "https://example.org/a", "MIT")
    assert second == SourcePair(f"{name}:2", "b", "a panda", other)


def test_a_list_in_csv_is_read(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": ""})
    (root / "captions.csv").write_text(
        'Image,Caption,Source\na.png,"a fox, red",pack@1\nb.png,a panda\n', encoding="utf-8-sig"
    )
    first, second = entries(root)
    assert isinstance(first, SourcePair)
    assert isinstance(second, SourcePair)
    assert (first.id, first.caption, first.source) == ("a", "a fox, red", "pack@1")
    assert (second.id, second.caption, second.source) == ("b", "a panda", "")
    assert open_source(root).size() == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "../secret.png", "text": "x"}', "path outside the source"),
        ('{"image": "link.png", "text": "x"}', "path outside the source"),
        ('{"image": "/etc/passwd", "text": "x"}', "path outside the source"),
        ('{"image": "nothing.png", "text": "x"}', "unreadable file"),
        ('{"image": ".", "text": "x"}', "unreadable file"),
        ('{"image": "a\\u0000.png", "text": "x"}', "bad characters"),
        ('{"image": "\\ud800.png", "text": "x"}', "bad characters"),
        ('{"image": "pipe", "text": "x"}', "unreadable file"),
        ('{"text": "x"}', "no image"),
        ('{"image": "a.png"', "broken line"),
        ("[1, 2]", "broken line"),
        ("[" * 100_000, "broken line"),
    ],
)
def test_a_bad_line_is_reported_and_the_next_one_read(folder: MakeFolder, line: str, reason: str) -> None:
    root = folder({"a": ""})
    (root.parent / "secret.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(root.parent / "secret.png")
    os.mkfifo(root / "pipe")
    (root / "captions.jsonl").write_text(line + '\n{"image": "a.png", "text": "a fox"}\n')
    bad, good = entries(root)
    assert isinstance(bad, Rejected)
    assert (bad.location, bad.reason) == ("captions.jsonl:1", reason)
    assert isinstance(good, SourcePair)


def test_invalid_utf8_spoils_only_its_line(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": ""})
    (root / "captions.csv").write_bytes(b"image,text\na.png,caf\xe9\nb.png,a fox\n")
    first, second = entries(root)
    assert isinstance(first, SourcePair)
    assert "\udce9" in first.caption  # The check of the caption refuses it.
    assert isinstance(second, SourcePair)


def test_a_broken_quotation_in_csv_is_reported(folder: MakeFolder) -> None:
    root = folder({"a": ""})
    (root / "captions.csv").write_text('image,text\na.png,"a "fox"\n')
    (bad,) = entries(root)
    assert isinstance(bad, Rejected)
    assert bad.reason == "broken line"


def test_a_folder_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"source: .* has no"):
        open_source(tmp_path)
    with pytest.raises(InvalidArgument, match=r"source: .* is neither a folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(InvalidArgument, match=r"source: .* is neither a folder"):
        open_source(tmp_path / "a.txt")


def test_image_folders_of_hugging_face_are_read(folder: MakeFolder, parquet_file: Callable[..., Path]) -> None:
    root = folder({"train/birds/a": "", "train/b": "", "test/c": ""})
    rows = [{"file_name": "birds/a.png", "text": "a kea"}, {"file_name": "b.png", "text": "a fox"}]
    parquet_file(root / "train" / "metadata.parquet", rows)
    parquet_file(
        root / "test" / "metadata.parquet", [{"image_file_name": "c.png", "caption": "a panda", "license": None}]
    )
    taken = [(entry.location, entry.id, entry.caption) for entry in entries(root) if isinstance(entry, SourcePair)]
    assert taken == [
        ("test/metadata.parquet:1", "test/c", "a panda"),
        ("train/metadata.parquet:1", "train/birds/a", "a kea"),
        ("train/metadata.parquet:2", "train/b", "a fox"),
    ]
    assert open_source(root).size() == 3
    assert list(open_source(root).entries(2)) == entries(root)[2:]


def test_a_list_can_be_named_directly(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": "a panda"})
    (root / "mine.csv").write_text("image,caption,punsafe,nsfw\na.png,a fox,0.25,NSFW\n")
    (pair,) = open_source(root / "mine.csv").entries()
    assert isinstance(pair, SourcePair)
    assert (pair.id, pair.caption, pair.unsafe) == ("a", "a fox", 0.25)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"file_name": "a.png", "text": ["a", "fox"]}, "wrong type"),
        ({"file_name": {"path": "a.png"}, "text": "a fox"}, "wrong type"),
        ({"file_name": 7, "text": "a fox"}, "unreadable file"),
        ({"file_name": b"\xff\xfe", "text": "a fox"}, "unreadable file"),
        ({"file_name": "../a.png", "text": "a fox"}, "path outside the source"),
        ({"file_name": None, "text": "a fox"}, "no image"),
    ],
)
def test_a_row_of_wrong_types_is_reported(
    folder: MakeFolder, parquet_file: Callable[..., Path], row: dict[str, object], reason: str
) -> None:
    root = folder({"a": ""})
    (root / "metadata.parquet").unlink(missing_ok=True)
    parquet_file(root / "metadata.parquet", [row])
    (entry,) = entries(root)
    assert isinstance(entry, Rejected)
    assert (entry.location, entry.reason) == ("metadata.parquet:1", reason)


def test_invalid_utf8_in_parquet_spoils_only_its_row(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": ""})
    texts = pa.array([b"a k\xed\xa0\x80ea", b"a fox"]).view(pa.string())
    parquet.write_table(pa.table({"file_name": ["a.png", "b.png"], "text": texts}), root / "metadata.parquet")
    first, second = entries(root)
    assert isinstance(first, SourcePair)
    assert "\udced" in first.caption  # The check of the caption refuses it.
    assert isinstance(second, SourcePair)


def test_without_pyarrow_a_list_in_parquet_says_how_to_install_it(
    folder: MakeFolder, parquet_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder({"a": ""})
    parquet_file(root / "metadata.parquet", [{"file_name": "a.png", "text": "a fox"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'reimagen-retriever\[parquet\]'"):
        entries(root)


def test_an_endless_line_is_not_read_into_memory(folder: MakeFolder) -> None:
    root = folder({"a": ""})
    (root / "captions.jsonl").write_bytes(b"x" * 3_000_000 + b'\n{"image": "a.png", "text": "a fox"}\n')
    long, fox = entries(root)
    assert isinstance(long, Rejected)
    assert (long.location, long.reason) == ("captions.jsonl:1", "broken line")
    assert isinstance(fox, SourcePair)
    assert fox.location == "captions.jsonl:2"
