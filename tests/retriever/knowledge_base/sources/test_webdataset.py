import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reimagen_common.images import MAXIMUM_IMAGE_BYTES
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

MakeTar = Callable[..., Path]


def sample(key: str, text: str = "a fox", **columns: object) -> dict[str, bytes]:
    return {
        f"{key}.jpg": b"image " + key.encode(),
        f"{key}.txt": text.encode(),
        f"{key}.json": json.dumps({"key": key, "status": "success", **columns}).encode(),
    }


def entries(path: Path) -> list[SourcePair | Rejected]:
    return list(open_source(path).entries())


def only(path: Path) -> SourcePair | Rejected:
    (entry,) = entries(path)
    return entry


def test_samples_of_img2dataset_are_read(tar: MakeTar) -> None:
    path = tar(
        sample("000000000", url="https://example.org/a.jpg", LICENSE="CC-BY-4.0", error_message=None)
        | sample("000000001", "", caption="a panda", id="own id")
    )
    assert entries(path) == [
        SourcePair(
            "00000.tar/000000000",
            "000000000",
            "a fox",
            b"image 000000000",
            "https://example.org/a.jpg",
            "CC-BY-4.0",
        ),
        SourcePair("00000.tar/000000001", "own id", "a panda", b"image 000000001"),
    ]


def test_a_folder_of_shards_is_read_in_order(tar: MakeTar) -> None:
    tar(sample("b"), "00001.tar")
    folder = tar(sample("a"), "00000.tar").parent
    (folder / "00000_stats.json").write_text('{"count": 1}')
    (folder / "00001_stats.json").write_text('{"count": 1}')
    assert [entry.id for entry in entries(folder) if isinstance(entry, SourcePair)] == ["a", "b"]
    assert open_source(folder).size() == 2


def test_members_in_folders_and_with_other_suffixes_are_read(tar: MakeTar) -> None:
    members = {"./x/1.PNG": b"one", "x/1.txt": b"a fox", "x/1.neighbor.npy": b"?", "x/1.cls": b"3"}
    assert only(tar(members)) == SourcePair("00000.tar/x/1", "x/1", "a fox", b"one")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.txt": b"a fox"}, "no image"),
        ({"1.npy": b"?"}, "no image"),
        ({"1.jpg": b"x", "1.txt": b"\xff"}, "bad characters"),
        ({"1.jpg": b"x", "1.json": b"{"}, "broken json"),
        ({"1.jpg": b"x", "1.json": b"[" * 100_000}, "broken json"),
        ({"1.jpg": b"x", "1.json": b"[]"}, "broken json"),
        ({"1.jpg": b"x", "1.json": b'{"status": "failed_to_resize", "error_message": "x"}'}, "failed to resize: x"),
        ({"1.jpg": b"x" * (MAXIMUM_IMAGE_BYTES + 1), "1.txt": b"a fox"}, "image file too large"),
        ({"1.jpg": b"x", "1.txt": b"x" * (1024 * 1024 + 1)}, "caption file too large"),
        ({"../1.jpg": b"x", "../1.txt": b"a fox"}, "path outside the source"),
        ({"/1.jpg": b"x", "/1.txt": b"a fox"}, "path outside the source"),
    ],
)
def test_a_bad_sample_is_reported_and_the_next_one_read(tar: MakeTar, members: dict[str, bytes], reason: str) -> None:
    bad, good = entries(tar(members | sample("2")))
    assert isinstance(bad, Rejected)
    assert bad.reason == reason
    assert isinstance(good, SourcePair)
    assert good.id == "2"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as file:
        link = tarfile.TarInfo("1.jpg")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        file.addfile(link)
    entry = only(tmp_path / "0.tar")
    assert isinstance(entry, Rejected)
    assert entry.reason == "unreadable file"


@pytest.mark.parametrize("kept", [700, 1024 + 512, 3 * 1024])
def test_a_truncated_shard_is_reported(tar: MakeTar, kept: int) -> None:
    path = tar(sample("1") | sample("2"))
    path.write_bytes(path.read_bytes()[:kept])
    found = entries(path)
    assert isinstance(found[-1], Rejected)
    assert found[-1].reason in {"cut off shard", "broken shard"}


def test_an_invalid_tar_is_reported_and_the_next_shard_read(tar: MakeTar) -> None:
    folder = tar(sample("1"), "00001.tar").parent
    (folder / "00000.tar").write_bytes(b"not a tar file" * 100)
    bad, good = entries(folder)
    assert isinstance(bad, Rejected)
    assert (bad.location, bad.reason) == ("00000.tar", "broken shard")
    assert isinstance(good, SourcePair)


def test_concatenated_archives_are_read_to_their_end(tar: MakeTar) -> None:
    parts = [tar(sample(str(number)), f"part{number}").read_bytes() for number in range(3)]
    path = tar({}, "joined.tar")
    path.write_bytes(path.read_bytes() + parts[0] + bytes(512 * 7) + parts[1] + parts[2] + bytes(10_240))
    everything = entries(path)
    assert [entry.id for entry in everything if isinstance(entry, SourcePair)] == ["0", "1", "2"]
    assert [list(open_source(path).entries(skip)) for skip in range(4)] == [everything[skip:] for skip in range(4)]


@pytest.mark.parametrize("garbage", [b"garbage", b"x" * 2_000, b"\0" * 700 + b"x" * 2_000])
def test_trailing_bytes_of_an_archive_are_reported(tar: MakeTar, garbage: bytes) -> None:
    path = tar(sample("1"))
    path.write_bytes(path.read_bytes() + garbage)
    good, bad = entries(path)
    assert isinstance(good, SourcePair)
    assert isinstance(bad, Rejected)
    assert (bad.location, bad.reason) == ("00000.tar", "broken shard")


def test_a_zeroed_header_is_reported(tar: MakeTar) -> None:
    path = tar(sample("1") | sample("2"))
    data = bytearray(path.read_bytes())
    data[6 * 512 : 7 * 512] = bytes(512)
    path.write_bytes(data)
    *_, bad = entries(path)
    assert isinstance(bad, Rejected)
    assert bad.reason == "broken shard"


def test_hidden_members_are_ignored(tar: MakeTar) -> None:
    members: dict[str, bytes] = {}
    for name, data in sample("1").items():
        members |= {f"./._{name}": b"\0\5\x16\7", f"./{name}": data, f"__MACOSX/._{name}": b"\0\5\x16\7"}
    entry = only(tar(members | {".DS_Store": b"x"}))
    assert isinstance(entry, SourcePair)
    assert entry.id == "1"


def test_suffixes_in_capitals_are_read(tar: MakeTar, parquet_file: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    tar({"1.JPEG": b"one", "1.TXT": b"a fox", "1.JSON": b'{"url": "u"}'}, "shards/A.TAR")
    parquet_file(folder / "A.PARQUET", [{"key": "1", "license": "MIT"}])
    (folder / "A_STATS.JSON").write_text('{"count": 1}')
    assert only(folder) == only(folder / "A.TAR") == SourcePair("A.TAR/1", "1", "a fox", b"one", "u", "MIT")
    assert open_source(folder).size() == 1
    assert list(open_source(folder).left_over()) == []


def test_extra_members_of_a_sample_are_reported(tar: MakeTar) -> None:
    path = tar(sample("1") | {"1.png": b"another", "1.cls": b"7"} | sample("2") | {"3.heic": b"x", "3.txt": b"a kea"})
    first, surplus, second, heic = everything = entries(path)
    assert (first.location, second.location, heic.location) == ("00000.tar/1", "00000.tar/2", "00000.tar/3")
    assert isinstance(surplus, Rejected)
    assert (surplus.location, surplus.reason) == ("00000.tar/1.png", "surplus member")
    assert [list(open_source(path).entries(skip)) for skip in range(5)] == [everything[skip:] for skip in range(5)]


def test_other_files_beside_shards_are_reported(tar: MakeTar, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    (folder / "more").mkdir(parents=True)
    tar(sample("1"), "shards/00000.tar")
    for name in ("a.jpg", "00007.parquet", "more/00001.tar", ".hidden"):
        (folder / name).write_bytes(b"x")
    (folder / "00002.tar").symlink_to("nothing.tar")
    reported = [(left.location, left.reason) for left in open_source(folder).left_over()]
    assert reported == [(name, "not in a shard") for name in ("00007.parquet", "a.jpg", "more/00001.tar")]
    assert list(open_source(folder).identity())
    assert [getattr(entry, "reason", "") for entry in entries(folder)] == ["", "unreadable file"]
    for name in ("00000.tar", "00002.tar", "a.jpg", "00007.parquet"):
        (folder / name).unlink()
    tar(sample("5"), "shards/more/00001.tar")
    assert only(folder).location == "more/00001.tar/5"


def test_an_empty_shard_has_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w"):
        pass
    assert path.stat().st_size > 0
    assert entries(path) == []
