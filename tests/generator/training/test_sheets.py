"""Sample sheets and TensorBoard's curves, of short runs."""

import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from reimagen_generator.training import trainer
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.trainer import Trainer

LINE, GAP, CELL = 20, 4, 128


@pytest.fixture(scope="module")
def large(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the shards with images of 32 pixels of noise."""
    folder, random = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    for path in data.iterdir():
        with tarfile.open(path) as small, tarfile.open(folder / path.name, "w") as shard:
            for member in small:
                content = small.extractfile(member)
                assert content is not None
                held = content.read()
                if member.name.endswith("png"):
                    buffer = io.BytesIO()
                    Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
                    held = buffer.getvalue()
                member.size = len(held)
                shard.addfile(member, io.BytesIO(held))
    return folder


def run(cascade: Path, data: Path, output: Path, **changed: Any) -> TrainingConfig:
    values = {"cascade": cascade, "stage": 0, "data": data, "output": output, "weights": output / "weights"}
    values |= {"steps": 4, "warmup_steps": 1, "batch_size": 2, "draws": 2, "learning_rate": 1e-3}
    config = TrainingConfig.model_validate(values | changed)
    Trainer(config).run()
    return config


def events(folder: Path) -> Iterator[Event]:
    """Return the records of a folder's event files: each is its length, a checksum, the data, and a checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        held = path.read_bytes()
        while held:
            (size,) = struct.unpack("<Q", held[:8])
            yield Event.FromString(held[12 : 12 + size])
            held = held[16 + size :]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        return np.asarray(sheet)


def cell(path: Path, row: int, column: int) -> np.ndarray:
    sheet = pixels(path)
    top, left = 2 * LINE + row * (CELL + LINE + GAP), column * (CELL + GAP)
    return sheet[top : top + CELL, left : left + CELL]


def test_sheets_show_the_samples_without_changing_weights(
    small: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_REPORT_EVERY", 2)
    plain = run(small, data, tmp_path / "plain", sheet_minutes=0)
    drawn = run(small, data, tmp_path / "drawn", sheet_minutes=1e-6)
    assert not (plain.output / "sheets").exists()
    for file in sorted(plain.weights.iterdir()):
        assert (drawn.weights / file.name).read_bytes() == file.read_bytes()
    sheets = sorted((drawn.output / "sheets").iterdir())
    assert [sheet.name for sheet in sheets] == [f"{step:08d}.png" for step in (1, 2, 3, 4)]
    # Target, two neighbors, drawn with them and without: seven samples, each of one color.
    assert pixels(sheets[0]).shape == (LINE + 7 * (CELL + LINE + GAP), 5 * CELL + 4 * GAP, 3)
    for row in range(7):
        target, first, second = (cell(sheets[0], row, column) for column in range(3))
        number = target[0, 0, 0]
        np.testing.assert_array_equal(target, np.broadcast_to([number, 100, 200], target.shape))
        np.testing.assert_array_equal(first, np.broadcast_to([number, 0, 0], target.shape))
        np.testing.assert_array_equal(second, np.broadcast_to([0, number, 0], target.shape))
        for column in range(3):
            np.testing.assert_array_equal(cell(sheets[3], row, column), cell(sheets[0], row, column))
    assert any((cell(sheets[0], row, 3) != cell(sheets[3], row, 3)).any() for row in range(7))
    reported = list(events(drawn.output))
    images = [value.image for event in reported for value in event.summary.value if value.HasField("image")]
    assert [image.width for image in images] == [5 * CELL + 4 * GAP] * 4
    shown = np.asarray(Image.open(io.BytesIO(images[-1].encoded_image_string)))
    np.testing.assert_array_equal(shown, pixels(sheets[3]))


def test_curves_resume_with_a_killed_run(
    small: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_REPORT_EVERY", 2)

    def killed(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", killed)
        with pytest.raises(RuntimeError):
            run(small, data, tmp_path, sheet_minutes=0)
    run(small, data, tmp_path, sheet_minutes=0)
    reported = list(events(tmp_path))
    starts = [event.step for event in reported if event.session_log.status == event.session_log.START]
    assert starts[-1] == 1  # from this step on, TensorBoard discards earlier records
    scalars = {(e.step, value.tag): value.simple_value for e in reported for value in e.summary.value}
    assert {step for step, _ in scalars} == {2, 4}
    for step in (2, 4):
        quarters = [value for (at, tag), value in scalars.items() if at == step and tag.startswith("loss/time")]
        assert len(quarters) == 4  # of four rows, whose times are spread evenly
        np.testing.assert_allclose(np.mean(quarters), scalars[step, "loss/all"], rtol=1e-5)
        assert scalars[step, "gradient_norm"] > 0
        assert scalars[step, "rows_per_second"] > 0
        assert scalars[step, "bad_records"] == 0
    # Warmed up in one step, then on half a cosine down to a tenth: the second step has the peak.
    np.testing.assert_allclose(scalars[2, "learning_rate"], 1e-3)
    np.testing.assert_allclose(scalars[4, "learning_rate"], 1e-3 * (0.1 + 0.9 * (1 + np.cos(np.pi * 2 / 3)) / 2))


@pytest.mark.parametrize(("changed", "columns"), [({}, 6), ({"crop": 16, "neighbors": 0}, 3)])
def test_super_resolution_sheets_use_the_true_low_resolution_image(
    small: Path, large: Path, tmp_path: Path, changed: dict[str, Any], columns: int
) -> None:
    """Sheets of whole images with two neighbors and without, and of crops without neighbors."""
    config = run(small, large, tmp_path, stage=1, sheet_minutes=60, **changed)
    (sheet,) = (config.output / "sheets").iterdir()
    assert pixels(sheet).shape == (LINE + 7 * (CELL + LINE + GAP), columns * (CELL + GAP) - GAP, 3)
    side = config.crop or 32
    for row in range(7):
        target, low_res, drawn = (cell(sheet, row, column) for column in (0, 1, columns - 1))
        scale = CELL // side
        target = target[::scale, ::scale].astype(float)
        means = target.reshape(side // 2, 2, side // 2, 2, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(low_res[:: 2 * scale, :: 2 * scale], means, atol=0.51)
        # A network that starts as zero predicts the upsampled image: after four steps it is still near.
        np.testing.assert_allclose(drawn.mean(axis=(0, 1)), low_res.mean(axis=(0, 1)), atol=16)
