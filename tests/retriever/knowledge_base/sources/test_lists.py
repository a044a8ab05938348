"""Lists of captions as spreadsheets, pandas and collections with several captions per image write them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source


@pytest.fixture
def root(tmp_path: Path, make_image: Callable[..., bytes]) -> Path:
    """Make a folder of six images without captions."""
    folder = tmp_path / "listed"
    folder.mkdir()
    for name in "abcdef":
        (folder / f"{name}.png").write_bytes(make_image())
    return folder


def entries(folder: Path) -> list[SourcePair | Rejected]:
    return list(open_source(folder).entries())


def taken(folder: Path) -> list[tuple[str, str]]:
    return [(entry.id, entry.caption) for entry in entries(folder) if isinstance(entry, SourcePair)]


def refused(folder: Path) -> list[tuple[str, str]]:
    return [(entry.location, entry.reason) for entry in entries(folder) if isinstance(entry, Rejected)]


def test_a_row_with_more_fields_than_the_header_is_reported(root: Path) -> None:
    (root / "captions.csv").write_text("image,text\na.png,a kea, green, on a rock\nb.png,a fox,\nc.png,\n")
    assert taken(root) == [("b", "a fox")]
    assert refused(root) == [("captions.csv:2", "surplus fields"), ("captions.csv:4", "no caption")]
    assert "4 fields, the header has 2" in getattr(entries(root)[0], "detail", "")


def test_an_open_quote_spoils_only_its_row(root: Path) -> None:
    lines = ["image,text", "a.png,a nut", 'b.png,"a 7 inch disk', "c.png,a bolt", 'd.png,"a ""big"" nail,', 'bent"']
    (root / "captions.csv").write_text("\n".join([*lines, 'e.png,"a 3 inch', "f.png,a screw"]))
    assert refused(root) == [("captions.csv:3", "broken line"), ("captions.csv:7", "broken line")]
    assert taken(root) == [("a", "a nut"), ("c", "a bolt"), ("d", 'a "big" nail,\nbent'), ("f", "a screw")]


def test_an_open_quote_closed_by_a_later_row_is_reported(root: Path) -> None:
    (root / "captions.csv").write_text('image,text\na.png,"a 7 inch disk\nb.png,a 9 inch disk"\nc.png,a bolt\n')
    assert refused(root) == [("captions.csv:2", "broken line")]
    assert taken(root) == [("b", 'a 9 inch disk"'), ("c", "a bolt")]


def test_an_open_quote_in_a_large_list_is_not_read_to_its_end(root: Path) -> None:
    rows = [f"{'x' * 100}{number}.png,a fox" for number in range(2_000)]
    (root / "captions.csv").write_text("\n".join(["image,text", 'a.png,"open', *rows, "b.png,a kea"]))
    assert refused(root)[:2] == [("captions.csv:2", "broken line"), ("captions.csv:3", "unreadable file")]
    assert taken(root) == [("b", "a kea")]


def test_a_line_that_is_too_long_is_reported_once(root: Path) -> None:
    (root / "captions.csv").write_text(f"image,text\na.png,{'x' * 3_000_000}\nb.png,a fox\n")
    assert refused(root) == [("captions.csv:2", "broken line")]
    assert taken(root) == [("b", "a fox")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), True, False])
def test_values_other_than_text_and_numbers_are_missing(root: Path, value: object) -> None:
    rows = [
        {"file_name": "a.png", "text": "a fox", "id": value, "license": value, "url": value, "punsafe": value},
        {"file_name": "b.png", "text": value},
        {"file_name": value, "text": "a kea"},
    ]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pair, no_caption, no_image = entries(root)
    assert isinstance(pair, SourcePair)
    assert (pair.id, pair.caption, pair.source, pair.license) == ("a", "a fox", "", "")
    assert isinstance(no_caption, Rejected)
    assert no_caption.reason == "no caption"
    assert isinstance(no_image, Rejected)
    assert no_image.reason == "no image"


def test_nan_in_parquet_is_missing(root: Path, parquet_file: Callable[..., Path]) -> None:
    nan = float("nan")
    rows = [{"image": "a.png", "text": "a fox", "license": nan}, {"image": "b.png", "text": "a kea", "license": nan}]
    parquet_file(root / "metadata.parquet", rows)
    assert [entry.license for entry in entries(root) if isinstance(entry, SourcePair)] == ["", ""]


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_several_captions_of_an_image_are_one_pair(root: Path, name: str) -> None:
    rows = [
        ("a.png", "a dog runs"),
        ("b.png", "a kea"),
        ("./a.png", "a puppy, outdoors!"),
        ("a.png", "a dog runs"),
        ("a.png", " "),
        ("gone.png", "one"),
        ("gone.png", "two"),
        ("b.png", "a bird"),
    ]
    if name.endswith("csv"):
        text = "\n".join(["image,text", *(f'{path},"{caption}"' for path, caption in rows)])
    else:
        text = "\n".join(json.dumps({"image": path, "text": caption}) for path, caption in rows)
    (root / name).write_text(text)
    first = 2 if name.endswith("csv") else 1
    assert taken(root)[:2] == [("a", "a dog runs. a puppy, outdoors!"), ("b", "a kea. a bird.")]
    assert refused(root) == [
        (f"{name}:{first + 3}", "repeated row"),
        (f"{name}:{first + 5}", "unreadable file"),
        (f"{name}:{first + 6}", "unreadable file"),
    ]
    everything = entries(root)
    assert [list(open_source(root).entries(skip)) for skip in range(8)] == [everything[skip:] for skip in range(8)]


def test_rows_with_their_own_ids_are_separate_pairs(root: Path) -> None:
    (root / "captions.csv").write_text("image,text,id\na.png,a fox,1\na.png,a red fox,2\na.png,red,2\n")
    assert taken(root) == [("1", "a fox"), ("2", "a red fox. red.")]


@pytest.mark.parametrize(
    ("text", "encoding", "cause"),
    [
        ("image;text\na.png;a fox\n", "utf-8", "its columns are separated by ';', not by ','"),
        ("image\ttext\na.png\ta fox\n", "utf-8", r"its columns are separated by '\\t', not by ','"),
        ("image,text\na.png,a fox\n", "utf-16", "captions.csv is UTF-16; save it as UTF-8"),
        ("image,text\na.png,a fox\n", "utf-16-le", "captions.csv is UTF-16; save it as UTF-8"),
        ("image,text\na.png,a fox\n", "utf-32", "captions.csv is UTF-32; save it as UTF-8"),
        ("bild,text\na.png,a fox\n", "utf-8", "it has 'bild', 'text'; it needs one of image, file, file_name, "),
        ("image,titre\na.png,a fox\n", "utf-8", "it has 'image', 'titre'; .* and one of caption, text"),
        ("", "utf-8", "it is empty"),
    ],
)
def test_an_invalid_list_is_reported_with_the_cause(root: Path, text: str, encoding: str, cause: str) -> None:
    (root / "captions.csv").write_bytes(text.encode(encoding))
    with pytest.raises(InvalidArgument, match=rf"source: captions\.csv: .*{cause}"):
        open_source(root)
    (root / "train").mkdir()
    (root / "captions.csv").rename(root / "train" / "captions.csv")
    (root / "test").mkdir()
    (root / "test" / "metadata.csv").write_text("image,text\n../a.png,a fox\n")
    good, bad = entries(root)
    assert isinstance(good, SourcePair)
    assert (bad.location, getattr(bad, "reason", "")) in {
        ("train/captions.csv", "unknown columns"),
        ("train/captions.csv", "bad characters"),
    }


def test_unknown_columns_of_json_lines_and_parquet_are_reported(root: Path, parquet_file: Callable[..., Path]) -> None:
    rows = [{"image": "a.png", "alt": "a fox"}, {"photo": "b.png", "text": "a kea"}]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    details = [entry.detail for entry in entries(root) if isinstance(entry, Rejected)]
    assert details[0] == "none of the columns caption, text is filled; the row has image, alt"
    assert details[1].startswith("none of the columns image, file, file_name,")
    (root / "captions.jsonl").unlink()
    parquet_file(root / "captions.parquet", rows[:1])
    with pytest.raises(InvalidArgument, match=r"captions\.parquet: unknown columns: it has 'image', 'alt'; it needs"):
        open_source(root)


def test_files_that_a_list_does_not_name_are_reported(root: Path) -> None:
    (root / "captions.csv").write_text("image,text\na.png,a fox\nb.png,\nc.png,a,b,c\n")
    (root / "metadata.jsonl").write_text("{}")
    for name in ("a.txt", "README.md", "note.txt", "old.heic", "._a.png"):
        (root / name).write_text("x")
    left = [(left.location, left.reason) for left in open_source(root).left_over()]
    unlisted = [(f"{name}.png", "not in the list") for name in "cdef"]
    assert left == [
        ("README.md", "not an image"),
        *unlisted,
        ("metadata.jsonl", "not an image"),
        ("note.txt", "not an image"),
        ("old.heic", "not in the list"),
    ]
    assert list(open_source(root / "captions.csv").left_over()) == []
