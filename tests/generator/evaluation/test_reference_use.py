"""The measure of whether a stage uses its references, on tiny networks whose every weight is random."""

import io
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.evaluation.reference_use import ReferenceUse, reference_use

SIDE, COUNT = 16, 16
TIMES = (0.2, 0.8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    Cascade.random(TINY, seed=0).save(folder)
    # What is seen of the neighbors passes through weights that begin at zero: here they have learned something.
    noise = np.random.default_rng(0)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        learned = {name: tensor + noise.normal(0, 0.1, tensor.shape) for name, tensor in tensors.items()}
        save_file({name: tensor.astype(np.float16) for name, tensor in learned.items()}, file)
    return folder


def write(folder: Path, neighbors: list[list[tuple[int, str]]], count: int = COUNT) -> Path:
    """A shard of random pictures; each has the neighbors (seed of a picture, text) that are given for it."""
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as shard:
        for number in range(count):
            members = {"png": png(1000 + number), "txt": f"picture {number}".encode()}
            for rank, (seed, text) in enumerate(neighbors[number % len(neighbors)]):
                members |= {f"neighbor{rank}.png": png(seed), f"neighbor{rank}.txt": text.encode()}
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return folder


def png(seed: int) -> bytes:
    pixels: npt.NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def measured(weights: Path, data: Path) -> list[ReferenceUse]:
    return list(reference_use(weights, 0, data, COUNT, 2, TIMES))


def test_right_and_shuffled_differ_in_the_neighbors_alone(weights: Path, tmp_path: Path) -> None:
    """Where all pictures have the same neighbors another picture's are one's own, and nothing is left to differ."""
    same = measured(weights, write(tmp_path / "same", [[(1, "a kea"), (2, "a fox")]]))
    assert [row.time for row in same] == list(TIMES)
    assert [row.shuffled for row in same] == [row.right for row in same]
    assert all(row.none != row.right for row in same)
    own = measured(weights, write(tmp_path / "own", [[(n, f"thing {n}"), (50 + n, "a fox")] for n in range(COUNT)]))
    assert all(row.shuffled != row.right for row in own)
    # Without neighbors it does not matter which they would have been.
    assert [row.none for row in own] == [row.none for row in same]


def test_another_pictures_neighbors_come_as_many_as_it_has(weights: Path, tmp_path: Path) -> None:
    """Even pictures have two, odd ones none: shuffled, each side sees what the other has."""
    pair = [(1, "a kea"), (2, "a fox")]
    as_they_are = measured(weights, write(tmp_path / "even", [pair, []]))
    the_other_way = measured(weights, write(tmp_path / "odd", [[], pair]))
    assert [row.shuffled for row in as_they_are] == [row.right for row in the_other_way]
    assert [row.right for row in as_they_are] != [row.right for row in the_other_way]


def test_with_no_neighbors_all_three_agree(weights: Path, tmp_path: Path) -> None:
    for row in measured(weights, write(tmp_path / "alone", [[]])):
        assert row.right == row.shuffled == row.none


def test_too_few_samples_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count: at least 16"):
        next(reference_use(weights, 0, write(tmp_path / "few", [[]], count=15), COUNT, 2))
