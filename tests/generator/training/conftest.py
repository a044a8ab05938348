"""Training shards, written here."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image


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


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder / "00000.tar", 3)
    write_shard(folder / "00001.tar", 4)
    return folder
