"""How far sets of pictures are from a real one, in a network's features."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from reimagen_common.progress import progress_bar
from reimagen_evaluation.features.folders import PictureFolder
from reimagen_evaluation.features.network import FeatureNetwork, Features, features_of
from reimagen_evaluation.frechet import frechet_distance, moments
from reimagen_evaluation.judges.judge import Picture
from reimagen_evaluation.kernel import KernelDistance, kernel_distance


@dataclass(frozen=True)
class Distances:
    """Of one set of pictures."""

    folder: Path
    pictures: int
    frechet: float
    kernel: KernelDistance


def distances(
    real: Path,
    generated: Sequence[Path],
    network: FeatureNetwork,
    *,
    square: int | None,
    subset_size: int,
    batch_size: int,
) -> Iterator[Distances]:
    """Measures each set; pictures are read and looked at a batch at a time, and only features are kept.

    Args:
        real: folder of the real pictures, as `PictureFolder` reads it.
        generated: folders of the others.
        network: of the features.
        square: side that the middle of each picture is brought to first; None to leave them as they are.
        subset_size: of the kernel distance.
        batch_size: pictures at once.

    Raises:
        ValueError: a folder has no pictures, or fewer than a subset.
    """
    folders = [PictureFolder(folder, square) for folder in (real, *generated)]
    for folder, pictures in zip((real, *generated), folders, strict=True):
        if len(pictures) < subset_size:
            raise ValueError(
                f"subset_size: {folder} has {len(pictures):,} pictures, fewer than a subset of {subset_size:,}; the "
                "kernel distance needs smaller subsets, and a Fréchet distance of so few pictures says little"
            )
    true = _looked_at(network, folders[0], batch_size, real)
    truth = moments([true])
    for folder, pictures in zip(generated, folders[1:], strict=True):
        found = _looked_at(network, pictures, batch_size, folder)
        frechet = frechet_distance(truth, moments([found]))
        yield Distances(folder, len(pictures), frechet, kernel_distance(true, found, subset_size=subset_size))


def _looked_at(network: FeatureNetwork, pictures: PictureFolder, batch_size: int, folder: Path) -> Features:
    with progress_bar(len(pictures), f"{network.name}: {folder.name}", "images") as bar:
        rows = []
        for batch in _batches(pictures, batch_size):
            rows.append(features_of(network, batch))
            bar.update(len(batch))
    return np.concatenate(rows)


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    remaining = iter(pictures)
    while batch := list(islice(remaining, size)):
        yield batch
