"""Bad records are skipped and reported; bad shards are refused with the name of the file."""

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reimagen_generator.config.text import DroppedText
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import BadRecord, ShardSource
from reimagen_generator.training.loader import GoodSamples, LoadedBatch, batches, samples
from reimagen_generator.training.trainer import Trainer

SIDE = 16
Members = dict[str, bytes]
Changes = Mapping[str, bytes | None]


def image(color: tuple[int, ...], side: int = SIDE, **saved: Any) -> bytes:
    """Return a PNG of one color, with an alpha channel if the color has four numbers."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, len(color)), color, np.uint8)).save(buffer, "PNG", **saved)
    return buffer.getvalue()


def record(number: int) -> Members:
    gray = image((number, number, number))
    return {"png": gray, "txt": b"a kea", "json": b"{}", "neighbor0.png": gray, "neighbor0.txt": b"another kea"}


def write(path: Path, records: Mapping[str, Changes]) -> Path:
    """Write a shard of records, each given by its differences from a good one; None leaves a member out."""
    with tarfile.open(path, "w") as shard:
        for number, (key, changes) in enumerate(records.items()):
            for suffix, content in {**record(number), **changes}.items():
                if content is not None:
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    return path


BAD: dict[str, tuple[Changes, str]] = {
    "no image": ({"png": None}, "there is no image"),
    "no text": ({"txt": None}, "there is no text, txt"),
    "nothing": ({name: None for name in record(0) if name != "json"}, "there is no image"),
    "neighbor without text": ({"neighbor0.txt": None}, "there is no text, neighbor0.txt"),
    "neighbor without image": ({"neighbor0.png": None}, "there is no image, neighbor0.png"),
    "no image at all": ({"png": b"a kea"}, "png: broken image: not PNG"),
    "cut image": ({"neighbor0.png": image((1, 2, 3))[:50]}, "neighbor0.png: broken image"),
    "not UTF-8": ({"txt": b"a k\xe9a"}, "utf-8"),
    "another size": ({"png": image((1, 2, 3), 24)}, "png: must have 16 × 16 pixels, got 24 × 24; .*--size 16"),
    "low_res of another size": ({"low.png": image((1, 2, 3), 4)}, "low.png: must have 8 × 8 pixels, .* got 4 × 4"),
    "broken low_res": ({"low.png": b"a kea"}, "low.png: broken image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_named_with_its_shard_and_key(tmp_path: Path, kind: str) -> None:
    changes, reason = BAD[kind]
    shard = write(tmp_path / "00000.tar", {"folder/good": {}, "folder/bad": changes})
    source = ShardSource(tmp_path, SIDE, SIDE // 2)
    assert source[0].caption == "a kea"
    with pytest.raises(BadRecord, match=f"^{re.escape(str(shard))}, folder/bad: .*{reason}"):
        source[1]


def test_a_photograph_is_rotated_upright_and_made_opaque(tmp_path: Path) -> None:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, : SIDE // 2] = 255  # bright at the left
    exif = Image.Exif()
    exif[0x0112] = 6  # displayed rotated by a quarter turn to the right
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    seen_through = image((255, 0, 0, 0))
    write(tmp_path / "00000.tar", {"0": {"png": buffer.getvalue(), "neighbor0.png": seen_through}})
    sample = ShardSource(tmp_path, SIDE)[0]
    np.testing.assert_array_equal(sample.image[: SIDE // 2], 255)
    np.testing.assert_array_equal(sample.image[SIDE // 2 :], 0)
    np.testing.assert_array_equal(sample.neighbors[0].image, 255)


def stream(folder: Path) -> Any:
    nowhere = {"preset": "tiny", "stage": 0, "data": folder, "output": folder, "weights": folder}
    config = TrainingConfig.model_validate({**nowhere, "steps": 9, "warmup_steps": 1, "batch_size": 2, "seed": 1})
    good = GoodSamples(ShardSource(folder, SIDE))
    return batches(samples(good, config, 1), config, HashedNgramEncoder(), DroppedText.MASKED)


def seen(batch: LoadedBatch) -> list[tuple[int, str]]:
    grays = np.asarray(batch.rows.image)[:, 0, 0, 0].tolist()
    return list(zip(grays, (place.rpartition(", ")[2] for place in batch.locations), strict=True))


def test_bad_records_are_skipped_and_reported_once_also_after_a_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad: dict[str, Changes] = {"1": {"png": b""}, "4": {"txt": None}}
    shard = write(tmp_path / "00000.tar", {str(n): bad.get(str(n), {}) for n in range(6)})
    whole = stream(tmp_path)
    first = [next(whole) for _ in range(4)]
    state = whole.get_state()
    rest = [seen(next(whole)) for _ in range(8)]
    reported = capsys.readouterr().out
    assert reported.count(f"{shard}, 1: ") == reported.count(f"{shard}, 4: ") == reported.count("skipped (2 of 6)") == 1
    everything = {pair for batch in [*map(seen, first), *rest] for pair in batch}
    assert everything == {(n, str(n)) for n in (0, 2, 3, 5)}
    resumed = stream(tmp_path)
    resumed.set_state(state)
    assert [seen(next(resumed)) for _ in range(8)] == rest


def test_a_run_with_only_bad_records_ends_and_names_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", {"0": {"png": b""}, "1": {"txt": None}})
    with pytest.raises(ValueError, match=re.escape(f"data: all 2 records in {tmp_path} are invalid")):
        next(stream(tmp_path))


def test_shards_of_another_size_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    shard = write(tmp_path / "00000.tar", {"0": {"png": image((1, 2, 3), 24)}})
    nowhere = {"preset": "tiny", "stage": 0, "data": tmp_path, "output": tmp_path / "run", "weights": tmp_path}
    config = TrainingConfig.model_validate({**nowhere, "steps": 9, "warmup_steps": 1, "batch_size": 2})
    with pytest.raises(
        ValueError,
        match=rf"^data: the first record of every shard is invalid; .*{re.escape(str(shard))}, 0: .*--size 16",
    ):
        Trainer(config)
    write(tmp_path / "00001.tar", {"0": {}})
    ShardSource(tmp_path, SIDE).check()


def cut_member(whole: bytes) -> bytes:
    return whole[:700]


def cut_between_members(whole: bytes) -> bytes:
    return whole[: tarfile.BLOCKSIZE + tarfile.BLOCKSIZE * -(-len(record(0)["png"]) // tarfile.BLOCKSIZE)]


def cut_header(whole: bytes) -> bytes:
    return cut_between_members(whole) + whole[:100]


def overwritten(whole: bytes) -> bytes:
    at = len(cut_between_members(whole))
    return whole[:at] + b"?" * tarfile.BLOCKSIZE + whole[at + tarfile.BLOCKSIZE :]


@pytest.mark.parametrize(
    "damage",
    [cut_member, cut_between_members, cut_header, overwritten, lambda whole: b"", lambda whole: b"no tar" * 99],
)
def test_a_truncated_or_invalid_shard_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write(tmp_path / "00000.tar", {"0": {}})
    shard = write(tmp_path / "00001.tar", {"0": {}, "1": {}})
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(ValueError, match=rf"^data: {re.escape(str(shard))} is truncated or"):
        ShardSource(tmp_path)


def test_a_shard_without_a_record_is_named(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", {"0": {}})
    shard = write(tmp_path / "00001.tar", {})
    with pytest.raises(ValueError, match=rf"^data: {re.escape(str(shard))} contains no record"):
        ShardSource(tmp_path)
