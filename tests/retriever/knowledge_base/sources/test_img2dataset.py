"""Shards with their Parquet files, as img2dataset writes them, and LAION's metadata joined with them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

MakeShard = Callable[..., Path]
MakeParquet = Callable[[Path, Sequence[Mapping[str, object]]], Path]

ROWS: list[dict[str, Any]] = [
    {"image": b"0", "caption": "a fox", "url": "https://a", "punsafe": 0.01, "pwatermark": 0.9, "LICENSE": "MIT"},
    {"caption": "gone", "url": "https://b", "error_message": "HTTP Error 404: Not Found"},
    {"image": b"2", "caption": "a kea", "url": "https://c", "NSFW": "UNSURE", "similarity": 0.33},
    {"caption": "broken", "url": "https://d", "status": "failed_to_resize", "error_message": "image decoding error"},
]


def entries(folder: Path, skip: int = 0, metadata: Path | None = None) -> list[SourcePair | Rejected]:
    return list(open_source(folder, str(metadata or "")).entries(skip))


def pairs(folder: Path, metadata: Path | None = None) -> list[SourcePair]:
    return [entry for entry in entries(folder, metadata=metadata) if isinstance(entry, SourcePair)]


def test_the_table_adds_columns_and_reports_failed_downloads(img2dataset: MakeShard) -> None:
    folder = img2dataset(ROWS)
    assert entries(folder) == [
        SourcePair("00000.tar/000000000", "000000000", "a fox", b"0", "https://a", "MIT", unsafe=0.01, watermark=0.9),
        SourcePair("00000.tar/000000002", "000000002", "a kea", b"2", "https://c", unsafe=0.5, similarity=0.33),
        Rejected("00000.parquet:2", "failed to download: HTTP Error 404: Not Found"),
        Rejected("00000.parquet:4", "failed to resize: image decoding error"),
    ]
    assert open_source(folder).size() == 4


def test_a_tar_without_its_table_is_read(img2dataset: MakeShard) -> None:
    folder = img2dataset(ROWS)
    with_table = pairs(folder)
    (folder / "00000.parquet").unlink()
    assert entries(folder) == with_table
    assert entries(folder / "00000.tar") == with_table


def test_without_pyarrow_the_tar_is_read_and_the_table_reported(
    img2dataset: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = img2dataset(ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    *taken, reported = entries(folder)
    assert len(taken) == 2
    assert isinstance(reported, Rejected)
    assert (reported.location, reported.reason) == ("00000.parquet", "table not read")
    assert "pip install 'reimagen-retriever[parquet]'" in reported.detail


def test_an_image_only_in_the_table_is_reported(img2dataset: MakeShard, tar: Callable[..., Path]) -> None:
    folder = img2dataset(ROWS)
    (folder / "00000.tar").write_bytes(tar({"000000000.jpg": b"0"}, "short.tar").read_bytes())
    reasons = [(entry.location, entry.reason) for entry in entries(folder) if isinstance(entry, Rejected)]
    assert reasons[-1] == ("00000.tar/000000002", "no image")


def test_numeric_keys_of_early_versions_are_read(img2dataset: MakeShard, parquet_file: MakeParquet) -> None:
    folder = img2dataset(ROWS)
    (folder / "00000.tar").write_bytes(
        (folder / "00000.tar").read_bytes().replace(b'"punsafe": 0.01', b'"punsafe": null')
    )
    parquet_file(folder / "00000.parquet", [{"key": 0, "punsafe": 0.5, "url": "u"}, {"key": 2, "punsafe": 0.25}])
    assert [pair.unsafe for pair in pairs(folder)] == [0.5, 0.25]


@pytest.mark.parametrize(
    "rows",
    [
        [{"key": [1, 2], "status": "success"}],
        [{"key": {"a": 1}, "status": 7}],
        [{"status": "success"}],
        [{"key": b"\xff\xfe", "status": "success"}],
    ],
)
def test_a_table_of_wrong_types_is_reported_and_the_tar_read(
    img2dataset: MakeShard, parquet_file: MakeParquet, rows: list[dict[str, object]]
) -> None:
    folder = img2dataset(ROWS)
    parquet_file(folder / "00000.parquet", rows)
    assert len(pairs(folder)) == 2
    assert len(entries(folder)) == 3


def test_samples_read_before_are_skipped(img2dataset: MakeShard) -> None:
    img2dataset(ROWS)
    folder = img2dataset(ROWS, 1)
    (folder / "00000.tar").write_bytes((folder / "00000.tar").read_bytes()[:-10_240])
    everything = entries(folder)
    assert len(everything) == 9
    for skip in range(11):
        assert entries(folder, skip) == everything[skip:]


LAION_400M: list[dict[str, Any]] = [
    {"SAMPLE_ID": 7.0, "URL": "https://a", "TEXT": "a fox", "HEIGHT": 9, "WIDTH": 9, "LICENSE": "?", "NSFW": "NSFW"},
    {
        "SAMPLE_ID": 8.0,
        "URL": "https://c",
        "TEXT": "another text",
        "LICENSE": "CC0",
        "NSFW": "UNLIKELY",
        "similarity": 0.1,
    },
    {"SAMPLE_ID": None, "URL": "https://c", "TEXT": "a kea", "LICENSE": None, "NSFW": "UNSURE", "similarity": 0.4},
]
LAION_5B: list[dict[str, Any]] = [
    {"url": "https://a", "text": "a fox", "hash": -3, "punsafe": 0.7, "pwatermark": 0.2, "similarity": 0.3},
    {"url": "https://c", "text": "a kea", "hash": 99, "punsafe": None, "pwatermark": float("nan"), "language": "en"},
]


def bare(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Write shards like img2dataset without additional columns."""
    return [{name: value for name, value in row.items() if name in {"image", "caption", "url"}} for row in rows]


def test_laion_400m_is_joined_by_url_and_caption(
    img2dataset: MakeShard, parquet_file: MakeParquet, tmp_path: Path
) -> None:
    folder = img2dataset(bare(ROWS))
    parquet_file(tmp_path / "laion" / "part-0.snappy.parquet", LAION_400M)
    fox, kea = pairs(folder, tmp_path / "laion")
    assert (fox.unsafe, fox.license, fox.similarity) == (1.0, "?", None)
    assert (kea.unsafe, kea.license) == (0.5, "")
    assert kea.similarity == pytest.approx(0.4)


def test_laion_5b_in_lower_case_and_one_file_is_joined(
    img2dataset: MakeShard, parquet_file: MakeParquet, tmp_path: Path
) -> None:
    folder = img2dataset(bare(ROWS))
    fox, kea = pairs(folder, parquet_file(tmp_path / "joined.parquet", LAION_5B))
    assert (fox.unsafe, fox.watermark, fox.similarity) == pytest.approx((0.7, 0.2, 0.3))
    assert (kea.unsafe, kea.watermark, kea.similarity) == (None, None, None)


def test_a_sample_id_has_precedence_over_the_url(
    img2dataset: MakeShard, parquet_file: MakeParquet, tmp_path: Path
) -> None:
    folder = img2dataset([{"image": b"0", "caption": "another text", "url": "https://elsewhere", "SAMPLE_ID": 8}])
    (pair,) = pairs(folder, parquet_file(tmp_path / "laion.parquet", LAION_400M))
    assert pair.license == "CC0"
    assert pair.similarity == pytest.approx(0.1)


def test_a_sample_id_of_another_collection_is_not_joined(
    img2dataset: MakeShard, parquet_file: MakeParquet, tmp_path: Path
) -> None:
    samples = [
        {"image": b"0", "caption": "a rude mural", "url": "https://d", "SAMPLE_ID": 7},
        {"image": b"1", "caption": "a kind mural", "url": "https://e", "SAMPLE_ID": 8},
        {"image": b"2", "caption": "a third mural", "url": "https://f", "SAMPLE_ID": 8},
    ]
    theirs = [
        {"SAMPLE_ID": 40, "URL": "https://e", "TEXT": "a kind mural", "punsafe": 0.1},
        {"SAMPLE_ID": 41, "URL": "https://d", "TEXT": "a rude mural", "punsafe": 0.9},
        {"SAMPLE_ID": 7, "URL": "https://x", "TEXT": "a mug", "punsafe": 0.2},
        {"SAMPLE_ID": 8, "URL": "https://y", "TEXT": "a jar", "punsafe": 0.3},
    ]
    rude, kind, third = entries(img2dataset(samples), metadata=parquet_file(tmp_path / "laion.parquet", theirs))
    assert isinstance(rude, SourcePair)
    assert isinstance(kind, SourcePair)
    assert (rude.unsafe, kind.unsafe) == pytest.approx((0.9, 0.1))
    assert third == Rejected("00000.tar/000000002", "not in the metadata", "https://f")


def test_a_sample_without_metadata_is_reported(
    img2dataset: MakeShard, parquet_file: MakeParquet, tmp_path: Path
) -> None:
    folder = img2dataset([{"image": b"0", "caption": "a fox", "url": "https://elsewhere"}])
    metadata = parquet_file(tmp_path / "laion.parquet", LAION_400M)
    assert entries(folder, metadata=metadata) == [
        Rejected("00000.tar/000000000", "not in the metadata", "https://elsewhere")
    ]


def test_invalid_metadata_is_refused(img2dataset: MakeShard, parquet_file: MakeParquet, tmp_path: Path) -> None:
    folder = img2dataset(ROWS)
    with pytest.raises(InvalidArgument, match=r"metadata: .*other\.parquet:1 has neither URL nor SAMPLE_ID"):
        open_source(folder, str(parquet_file(tmp_path / "other.parquet", [{"caption": "x"}])))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 or so PAR1")
    with pytest.raises(InvalidArgument, match=r"metadata: broken\.parquet:1: broken parquet"):
        open_source(folder, str(tmp_path / "broken.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match=r"metadata: .* has no row of LAION's metadata"):
        open_source(folder, str(tmp_path / "empty"))
    with pytest.raises(InvalidArgument, match=r"metadata: needs a source of shards"):
        open_source(parquet_file(tmp_path / "images" / "metadata.parquet", LAION_5B).parent, "laion")
