import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.picture import MAXIMUM_PICTURE_BYTES
from reimagen_retriever.knowledge_base.sources import open_source

MakeTar = Callable[..., Path]


def sample(key: str, text: str = "a fox", **columns: object) -> dict[str, bytes]:
    return {
        f"{key}.jpg": b"picture " + key.encode(),
        f"{key}.txt": text.encode(),
        f"{key}.json": json.dumps({"key": key, "status": "success", **columns}).encode(),
    }


def entries(path: Path) -> list[SourcePair | Rejected]:
    return list(open_source(path).entries())


def only(path: Path) -> SourcePair | Rejected:
    (entry,) = entries(path)
    return entry


def test_samples_as_img2dataset_writes_them(tar: MakeTar) -> None:
    path = tar(
        sample("000000000", url="https://example.org/a.jpg", LICENSE="CC-BY-4.0", error_message=None)
        | sample("000000001", "", caption="a panda", id="own id")
    )
    assert entries(path) == [
        SourcePair(
            "00000.tar/000000000",
            "000000000",
            "a fox",
            b"picture 000000000",
            "https://example.org/a.jpg",
            "CC-BY-4.0",
        ),
        SourcePair("00000.tar/000000001", "own id", "a panda", b"picture 000000001"),
    ]


def test_a_folder_of_shards_in_their_order(tar: MakeTar) -> None:
    tar(sample("b"), "00001.tar")
    folder = tar(sample("a"), "00000.tar").parent
    (folder / "00000_stats.json").write_text('{"count": 1}')
    (folder / "00001_stats.json").write_text('{"count": 1}')
    assert [entry.id for entry in entries(folder) if isinstance(entry, SourcePair)] == ["a", "b"]
    assert open_source(folder).size() == 2


def test_members_in_folders_and_with_other_endings(tar: MakeTar) -> None:
    members = {"./x/1.PNG": b"one", "x/1.txt": b"a fox", "x/1.neighbor.npy": b"?", "x/1.cls": b"3"}
    assert only(tar(members)) == SourcePair("00000.tar/x/1", "x/1", "a fox", b"one")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.txt": b"a fox"}, "no picture"),
        ({"1.npy": b"?"}, "no picture"),
        ({"1.jpg": b"x", "1.txt": b"\xff"}, "bad characters"),
        ({"1.jpg": b"x", "1.json": b"{"}, "broken json"),
        ({"1.jpg": b"x", "1.json": b"[" * 100_000}, "broken json"),
        ({"1.jpg": b"x", "1.json": b"[]"}, "broken json"),
        ({"1.jpg": b"x", "1.json": b'{"status": "failed_to_resize", "error_message": "x"}'}, "failed to resize: x"),
        ({"1.jpg": b"x" * (MAXIMUM_PICTURE_BYTES + 1), "1.txt": b"a fox"}, "picture file too large"),
        ({"1.jpg": b"x", "1.txt": b"x" * (1024 * 1024 + 1)}, "caption file too large"),
        ({"../1.jpg": b"x", "../1.txt": b"a fox"}, "path outside the source"),
        ({"/1.jpg": b"x", "/1.txt": b"a fox"}, "path outside the source"),
    ],
)
def test_a_bad_sample_is_told_and_the_next_one_taken(tar: MakeTar, members: dict[str, bytes], reason: str) -> None:
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
def test_a_shard_that_is_cut_off_is_told(tar: MakeTar, kept: int) -> None:
    path = tar(sample("1") | sample("2"))
    path.write_bytes(path.read_bytes()[:kept])
    found = entries(path)
    assert isinstance(found[-1], Rejected)
    assert found[-1].reason in {"cut off shard", "broken shard"}


def test_a_file_that_is_no_tar_is_told_and_the_next_shard_read(tar: MakeTar) -> None:
    folder = tar(sample("1"), "00001.tar").parent
    (folder / "00000.tar").write_bytes(b"not a tar file" * 100)
    bad, good = entries(folder)
    assert isinstance(bad, Rejected)
    assert (bad.place, bad.reason) == ("00000.tar", "broken shard")
    assert isinstance(good, SourcePair)


def test_an_empty_shard_has_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w"):
        pass
    assert path.stat().st_size > 0
    assert entries(path) == []
