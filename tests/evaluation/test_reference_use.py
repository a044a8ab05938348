"""The measure of reference use, on tiny networks with random weights."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from reimagen_evaluation.reference_use import ReferenceUse, reference_use
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.placing import Placer
from reimagen_generator.weights.checkpoint import load_config

SIDE, COUNT = 16, 16
TIMES = (0.2, 0.8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(TINY, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def placing_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a cascade whose only stage takes placed neighbors."""
    first = TINY.stages[0]
    stage = first.model_copy(update={"network": first.network.model_copy(update={"placed": True, "tail_channels": 8})})
    placement = PlacementConfig(
        side=16,
        image_side=8,
        widths=(8, 8, 8, 8),
        text_width=16,
        queries=2,
        width=16,
    )
    config = TINY.model_copy(update={"stages": (stage,), "placement": placement})
    return saved(config, tmp_path_factory.mktemp("placing"))


def saved(config: CascadeConfig, folder: Path) -> Path:
    Cascade.random(config, seed=0).save(folder)
    # Neighbors pass through weights that start at zero: they are set as if trained.
    noise = np.random.default_rng(0)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        learned = {name: tensor + noise.normal(0, 0.1, tensor.shape) for name, tensor in tensors.items()}
        save_file({name: tensor.astype(np.float16) for name, tensor in learned.items()}, file)
    return folder


def write(folder: Path, neighbors: list[list[tuple[int, str]]], count: int = COUNT) -> Path:
    """Write a shard of random images, each with the given neighbors (seed of an image, caption)."""
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as shard:
        for number in range(count):
            members = {"png": png(1000 + number), "txt": f"image {number}".encode()}
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


def test_right_and_shuffled_differ_only_in_the_neighbors(weights: Path, tmp_path: Path) -> None:
    """If all images have the same neighbors, shuffling changes nothing."""
    same = measured(weights, write(tmp_path / "same", [[(1, "a kea"), (2, "a fox")]]))
    assert [row.time for row in same] == list(TIMES)
    assert [row.shuffled for row in same] == [row.right for row in same]
    assert all(row.none != row.right for row in same)
    own = measured(weights, write(tmp_path / "own", [[(n, f"thing {n}"), (50 + n, "a fox")] for n in range(COUNT)]))
    assert all(row.shuffled != row.right for row in own)
    # Without neighbors, shuffling them has no effect.
    assert [row.none for row in own] == [row.none for row in same]


def test_shuffled_neighbors_keep_their_number(weights: Path, tmp_path: Path) -> None:
    """Even images have two neighbors, odd ones none; shuffling exchanges them."""
    pair = [(1, "a kea"), (2, "a fox")]
    as_they_are = measured(weights, write(tmp_path / "even", [pair, []]))
    the_other_way = measured(weights, write(tmp_path / "odd", [[], pair]))
    assert [row.shuffled for row in as_they_are] == [row.right for row in the_other_way]
    assert [row.right for row in as_they_are] != [row.right for row in the_other_way]


def test_without_neighbors_all_three_losses_agree(weights: Path, tmp_path: Path) -> None:
    for row in measured(weights, write(tmp_path / "alone", [[]])):
        assert row.right == row.shuffled == row.none


def test_too_few_samples_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count: at least 16"):
        next(reference_use(weights, 0, write(tmp_path / "few", [[]], count=15), COUNT, 2))


def test_the_placement_network_places_by_the_noised_image(
    placing_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    placing_at = Placer.placing_at

    def noted(self: Placer, references: Any, text: Any, neighbor_text: Any, **options: Any) -> Any:
        placing = placing_at(self, references, text, neighbor_text, **options)
        seen.append((options, placing))
        return placing

    monkeypatch.setattr(Placer, "placing_at", noted)
    data = write(tmp_path / "own", [[(n, f"thing {n}"), (50 + n, f"thing {n}")] for n in range(COUNT)])
    rows = list(reference_use(placing_weights, 0, data, COUNT, 2, (0.02, 0.9)))
    assert all(row.shuffled != row.right != row.none for row in rows)
    assert len(seen) == 6
    shrunk = [np.asarray(Image.open(io.BytesIO(png(1000 + n))).reduce(2), float) / 127.5 - 1 for n in range(COUNT)]
    nearly_clean, noised = seen[0][0]["image"], seen[3][0]["image"]
    assert np.abs(nearly_clean - np.stack(shrunk)).mean() < 0.05
    assert np.abs(noised - np.stack(shrunk)).mean() > 0.2
    np.testing.assert_allclose(seen[3][0]["time"], 0.9, atol=0.01)
    # Both neighbors have one caption: they show one object, with one placement.
    for _, placing in seen:
        assert (placing.placements.center[:, 0] == placing.placements.center[:, 1]).all()
        assert placing.canvas.tolist() == [[0, 1]] * COUNT


def test_equal_placed_neighbors_of_another_image_help_as_much(placing_weights: Path, tmp_path: Path) -> None:
    same = write(tmp_path / "same", [[(1, "a kea"), (2, "a fox")]])
    for row in reference_use(placing_weights, 0, same, COUNT, 2, TIMES):
        assert row.shuffled == row.right != row.none


def test_shards_too_small_for_the_placement_network_are_refused(placing_weights: Path, tmp_path: Path) -> None:
    placement = load_config(placing_weights).placement
    assert placement
    larger = PlacementConfig(**(placement.model_dump() | {"side": 64}))
    folder = saved(load_config(placing_weights).model_copy(update={"placement": larger}), tmp_path / "weights")
    with pytest.raises(ValueError, match="data: the placement network needs neighbors of a multiple of 64 pixels"):
        next(reference_use(folder, 0, write(tmp_path / "small", [[(1, "a kea")]]), COUNT, 2))
