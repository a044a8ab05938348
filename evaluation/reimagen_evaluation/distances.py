"""Fréchet and kernel distances of sets of images to a real set, in a network's features."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from reimagen_common.progress import progress_bar
from reimagen_evaluation.features.folders import ImageFolder
from reimagen_evaluation.features.network import FeatureNetwork, Features, features_of
from reimagen_evaluation.frechet import frechet_distance, moments
from reimagen_evaluation.judges.judge import Pixels
from reimagen_evaluation.kernel import KernelDistance, kernel_distance


@dataclass(frozen=True)
class Distances:
    """The distances of one set of images."""

    folder: Path
    images: int
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
    """Yield the distances of each set; images are read in batches and only their features stay in memory.

    Args:
        real: folder of the real images, as `ImageFolder` reads it.
        generated: folders of the generated images.
        network: network that computes the features.
        square: side in pixels to resize each image's middle square to first; None leaves images as they are.
        subset_size: number of images per subset of the kernel distance.
        batch_size: number of images per batch.

    Raises:
        ValueError: a folder has no images, or fewer than a subset.
    """
    folders = [ImageFolder(folder, square) for folder in (real, *generated)]
    for folder, images in zip((real, *generated), folders, strict=True):
        if len(images) < subset_size:
            raise ValueError(
                f"subset_size: {folder} has {len(images):,} images, fewer than a subset of {subset_size:,}; the "
                "kernel distance needs smaller subsets, and a Fréchet distance of so few images says little"
            )
    true = _features(network, folders[0], batch_size, real)
    truth = moments([true])
    for folder, images in zip(generated, folders[1:], strict=True):
        found = _features(network, images, batch_size, folder)
        frechet = frechet_distance(truth, moments([found]))
        yield Distances(folder, len(images), frechet, kernel_distance(true, found, subset_size=subset_size))


def _features(network: FeatureNetwork, images: ImageFolder, batch_size: int, folder: Path) -> Features:
    with progress_bar(len(images), f"{network.name}: {folder.name}", "images") as bar:
        rows = []
        for batch in _batches(images, batch_size):
            rows.append(features_of(network, batch))
            bar.update(len(batch))
    return np.concatenate(rows)


def _batches(images: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield batch
