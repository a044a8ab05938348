import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.knowledge_base.sources.folder import FolderSource

MakeFolder = Callable[[Mapping[str, str]], Path]


def entries(folder: Path) -> list[SourcePair | Rejected]:
    source = open_source(folder)
    assert isinstance(source, FolderSource)
    return list(source.entries())


def test_pictures_with_texts_beside_them(folder: MakeFolder) -> None:
    root = folder({"b": "a panda", "birds/kea.v2": "a kea", "a": "a fox"})
    found = [entry for entry in entries(root) if isinstance(entry, SourcePair)]
    assert [(pair.id, pair.text) for pair in found] == [("a", "a fox"), ("b", "a panda"), ("birds/kea.v2", "a kea")]
    assert found[0].image == (root / "a.png").read_bytes()
    assert open_source(root).size() == 3


def test_a_missing_or_unreadable_caption_is_told(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": "", "c": "a fox"})
    (root / "a.txt").unlink()
    (root / "b.txt").write_bytes(b"\xff\xfe\x00")
    reasons = [entry.reason for entry in entries(root) if isinstance(entry, Rejected)]
    assert reasons == ["no caption", "bad characters"]


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
def test_a_list_in_json_lines(folder: MakeFolder, name: str) -> None:
    root = folder({"a": "", "b": ""})
    rows = [
        {"file_name": "a.png", "TEXT": "a fox", "LICENSE": "MIT", "URL": "https://example.org/a", "id": 7},
        {"image": "b.png", "caption": "a panda", "license": None, "width": 3},
    ]
    (root / name).write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = entries(root)
    image = (root / "a.png").read_bytes()
    assert first == SourcePair(f"{name}:1", "7", "a fox", image, "https://example.org/a", "MIT")
    assert second == SourcePair(f"{name}:2", "b", "a panda", image)


def test_a_list_in_csv(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": ""})
    (root / "captions.csv").write_text(
        'Image,Caption,Source\na.png,"a fox, red",pack@1\nb.png,a panda\n', encoding="utf-8-sig"
    )
    first, second = entries(root)
    assert isinstance(first, SourcePair)
    assert isinstance(second, SourcePair)
    assert (first.id, first.text, first.source) == ("a", "a fox, red", "pack@1")
    assert (second.id, second.text, second.source) == ("b", "a panda", "")
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
        ('{"text": "x"}', "no picture"),
        ('{"image": "a.png"', "broken line"),
        ("[1, 2]", "broken line"),
        ("[" * 100_000, "broken line"),
    ],
)
def test_a_bad_line_is_told_and_the_next_one_taken(folder: MakeFolder, line: str, reason: str) -> None:
    root = folder({"a": ""})
    (root.parent / "secret.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(root.parent / "secret.png")
    os.mkfifo(root / "pipe")
    (root / "captions.jsonl").write_text(line + '\n{"image": "a.png", "text": "a fox"}\n')
    bad, good = entries(root)
    assert isinstance(bad, Rejected)
    assert (bad.place, bad.reason) == ("captions.jsonl:1", reason)
    assert isinstance(good, SourcePair)


def test_bytes_that_are_no_text_spoil_their_line_alone(folder: MakeFolder) -> None:
    root = folder({"a": "", "b": ""})
    (root / "captions.csv").write_bytes(b"image,text\na.png,caf\xe9\nb.png,a fox\n")
    first, second = entries(root)
    assert isinstance(first, SourcePair)
    assert "\udce9" in first.text  # The check of the caption refuses it.
    assert isinstance(second, SourcePair)


def test_a_broken_quotation_in_csv_is_told(folder: MakeFolder) -> None:
    root = folder({"a": ""})
    (root / "captions.csv").write_text('image,text\na.png,"a "fox"\n')
    (bad,) = entries(root)
    assert isinstance(bad, Rejected)
    assert bad.reason == "broken line"


def test_nothing_to_build_from(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"source: .* holds no"):
        open_source(tmp_path)
    with pytest.raises(InvalidArgument, match=r"source: .* is neither a folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(InvalidArgument, match=r"source: .* is neither a folder"):
        open_source(tmp_path / "a.txt")
