"""The log of drawn images: what it finds, for whom, and for how long."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_generator.generation.image_log import ImageLog, fingerprint
from tests.generator.generation.test_provenance import ORIGIN
from tests.generator.watermark.test_watermark import TRANSFORMS, scene


def open_log(folder: Path, *, maximum: int = 100, seconds: float = 1000) -> ImageLog:
    return ImageLog(folder, maximum=maximum, seconds=seconds)


def test_a_record_outlives_the_process_and_is_private(tmp_path: Path) -> None:
    log = open_log(tmp_path / "state")
    log.add(scene(64, 1), 7, ORIGIN, owner="a")
    again = open_log(tmp_path / "state")
    found = again.with_mark(7, owner="a")
    assert found
    assert found.created
    assert replace(found, created=ORIGIN.created) == ORIGIN
    assert again.most_similar(scene(64, 1), owner="a") == found
    assert (again.with_mark(7, owner="b"), again.with_mark(8, owner="a")) == (None, None)
    assert again.most_similar(scene(64, 1), owner="b") is None
    assert (tmp_path / "state" / "images.sqlite3").stat().st_mode & 0o077 == 0
    log.close()
    again.close()


def test_the_nearest_image_is_found_and_no_other(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for seed in range(20):
        log.add(scene(64, seed), seed, replace(ORIGIN, seed=seed), owner="")
    for seed in range(20):
        found = log.most_similar(scene(64, seed), owner="")
        assert found
        assert found.seed == seed
    assert log.most_similar(scene(64, 20), owner="") is None
    log.close()


@pytest.mark.parametrize("transform", ["jpeg", "half", "larger"])
def test_compression_and_size_hardly_change_the_fingerprint(transform: str) -> None:
    changed = np.asarray(TRANSFORMS[transform](Image.fromarray(scene(64, 1))))
    bits = [np.frombuffer(fingerprint(one), np.uint8) for one in (scene(64, 1), changed)]
    assert np.bitwise_count(bits[0] ^ bits[1]).sum() <= 16


def test_only_the_latest_are_kept(tmp_path: Path) -> None:
    log = open_log(tmp_path, maximum=2)
    for mark in range(3):
        log.add(scene(64, mark), mark, ORIGIN, owner="")
    assert [log.with_mark(mark, owner="") is None for mark in range(3)] == [True, False, False]
    log.close()


def test_old_images_are_not_found_and_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path, seconds=10)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    log.add(scene(64, 1), 1, ORIGIN, owner="")
    monkeypatch.setattr("time.time", lambda: 1011.0)
    assert log.with_mark(1, owner="") is None
    log.add(scene(64, 2), 2, ORIGIN, owner="")
    log.close()
    with sqlite3.connect(tmp_path / "images.sqlite3") as database:
        assert database.execute("SELECT mark FROM images").fetchall() == [(2,)]
    database.close()


def test_a_failing_disk_loses_the_record_and_not_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(tmp_path)
    other = sqlite3.connect(tmp_path / "images.sqlite3")
    other.execute("DROP TABLE images")
    log.add(scene(64, 1), 1, ORIGIN, owner="")
    assert "an image is not recorded" in caplog.text
    other.close()
    log.close()


@pytest.mark.parametrize("content", [b"no database" * 1000, None])
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        with sqlite3.connect(tmp_path / "images.sqlite3") as database:
            database.execute("PRAGMA user_version = 9")
        database.close()
    else:
        (tmp_path / "images.sqlite3").write_bytes(content)
    with pytest.raises(InvalidArgument) as raised:
        open_log(tmp_path)
    assert raised.value.field == "state"
