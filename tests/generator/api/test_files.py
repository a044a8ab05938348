"""The files behind links in responses."""

import pytest

from reimagen_common.errors import NotFound
from reimagen_generator.api.http.files import FileStore


def test_a_file_is_kept_under_a_unique_name() -> None:
    files = FileStore(seconds=60, maximum_bytes=100)
    first, second = files.add(b"1", "image/png", owner=""), files.add(b"2", "image/webp", owner="")
    assert first.endswith(".png")
    assert second.endswith(".webp")
    assert (files.get(first, owner="").content, files.get(second, owner="").media_type) == (b"1", "image/webp")


def test_the_oldest_files_are_evicted() -> None:
    files = FileStore(seconds=60, maximum_bytes=10)
    names = [files.add(b"12345", "image/png", owner="") for _ in range(3)]
    with pytest.raises(NotFound):
        files.get(names[0], owner="")
    assert [files.get(name, owner="").content for name in names[1:]] == [b"12345"] * 2


def test_one_file_is_kept_however_large() -> None:
    files = FileStore(seconds=60, maximum_bytes=10)
    assert files.get(files.add(b"x" * 100, "image/png", owner=""), owner="").content == b"x" * 100


def test_expired_files_are_gone() -> None:
    files = FileStore(seconds=0, maximum_bytes=10)
    with pytest.raises(NotFound, match="no such image"):
        files.get(files.add(b"1", "image/png", owner=""), owner="")


def test_a_file_is_for_its_owner_only() -> None:
    files = FileStore(seconds=60, maximum_bytes=100)
    name = files.add(b"1", "image/png", owner="a1b2c3d4")
    assert files.get(name, owner="a1b2c3d4").content == b"1"
    for other in ("", "e5f6g7h8"):
        with pytest.raises(NotFound, match="no such image"):
            files.get(name, owner=other)
