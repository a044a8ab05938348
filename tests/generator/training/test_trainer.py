"""Training for real, a few steps of the tiny cascade's first stage on shards written here."""

import io
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import ShardSource
from reimagen_generator.training.trainer import Trainer, TrainingState


def write_shard(path: Path, samples: int) -> None:
    """Pictures of one color, each with two neighbors, the second of them without red."""
    with tarfile.open(path, "w") as shard:
        for number in range(samples):
            members = {
                "png": _png((number, 100, 200)),
                "txt": f"a kea number {number}".encode(),
                "json": b"{}",
                "neighbor0.png": _png((number, 0, 0)),
                "neighbor0.txt": b"a kea",
                "neighbor1.png": _png((0, number, 0)),
                "neighbor1.txt": b"another kea",
            }
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


def _png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(buffer, "PNG")
    return buffer.getvalue()


def config(data: Path, output: Path, steps: int) -> TrainingConfig:
    return TrainingConfig(
        preset="tiny",
        stage=0,
        data=data,
        output=output,
        weights=output / "weights",
        steps=steps,
        warmup_steps=1,
        batch_size=2,
        draws=2,
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_shard(folder / "00000.tar", 3)
    write_shard(folder / "00001.tar", 4)
    return folder


def test_samples_are_read_with_their_neighbors_in_order(data: Path) -> None:
    source = ShardSource(data)
    assert len(source) == 7
    sample = source[5]  # number 2 of the second shard
    assert sample.text == "a kea number 2"
    assert sample.picture[3, 4].tolist() == [2, 100, 200]
    assert [text for _, text in sample.neighbors] == ["a kea", "another kea"]
    assert [image[0, 0].tolist() for image, _ in sample.neighbors] == [[2, 0, 0], [0, 2, 0]]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: no shard"):
        ShardSource(tmp_path)


def test_a_warm_up_longer_than_the_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="warmup_steps: must be less than steps"):
        config(tmp_path, tmp_path, 1)


def test_a_stopped_run_goes_on_bit_for_bit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = config(data, tmp_path / "whole", 6)
    Trainer(whole).run()
    stopped = config(data, tmp_path / "stopped", 6)
    step = Trainer._step

    def interrupting(self: Trainer, state: TrainingState, *arguments: Any) -> Any:
        if int(state.step) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, state, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", interrupting)
        interrupted = Trainer(stopped)
        interrupted.run()
    assert int(interrupted.state.step) == 3
    resumed = Trainer(stopped)
    resumed.run()
    assert int(resumed.state.step) == 6
    file = "stage-16.safetensors"
    assert (stopped.weights / file).read_bytes() == (whole.weights / file).read_bytes()
