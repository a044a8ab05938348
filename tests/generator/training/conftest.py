"""Training shards, and a cascade that compiles quickly."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.networks import EfficientUNetConfig, LevelAttention, UNetConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade


def write_shard(path: Path, samples: int) -> None:
    """Write images of one color, each with two neighbors; the second has no red."""
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


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder / "00000.tar", 3)
    write_shard(folder / "00001.tar", 4)
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a cascade with random weights: the tiny one's first two stages with one level each, both with neighbors."""
    folder = tmp_path_factory.mktemp("small")
    base = UNetConfig(
        patch=2, widths=(8,), blocks=(1,), attention=(False,), neighbor_attention=(True,), head_channels=8
    )
    larger = EfficientUNetConfig(
        widths=(8,),
        blocks=(1,),
        attention=(LevelAttention.NONE,),
        neighbor_attention=(True,),
        head_channels=8,
        low_resolution=True,
        residual=True,
    )
    stages = [TINY.stages[i].model_copy(update={"network": network}) for i, network in enumerate((base, larger))]
    Cascade.random(CascadeConfig(name="small", stages=tuple(stages)), 0).save(folder)
    return folder
