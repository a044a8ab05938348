"""The stream of batches: shuffled, cropped, without bad records, and resumable from a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain

import grain
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from reimagen_generator.config.text import DroppedText
from reimagen_generator.parallel.hosts import is_primary
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import BadRecord, Sample, ShardSource, collate
from reimagen_generator.training.loss import Batch

Image8 = UInt8[np.ndarray, "height width *channels"]
_BOX = Image.Resampling.BOX


@dataclass(frozen=True)
class LoadedBatch:
    """A batch, and the location of each of its images."""

    rows: Batch
    locations: tuple[str, ...]


class GoodSamples:
    """A source's samples. Each bad record is replaced by the next good one and reported once.

    The sample of each index depends only on the data, so that a resumed run sees the same samples.
    """

    def __init__(self, source: ShardSource) -> None:
        self._source = source
        self.bad: dict[int, BadRecord] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample.

        Raises:
            ValueError: All records are bad.
        """
        count = len(self._source)
        for index_in_source in chain(range(index, count), range(index)):
            if index_in_source not in self.bad:
                try:
                    return self._source[index_in_source]
                except BadRecord as error:
                    self._report(index_in_source, error)
        raise ValueError(f"data: all {count:,} records in {self._source.folder} are invalid")

    def _report(self, index_in_source: int, error: BadRecord) -> None:
        self.bad[index_in_source] = error
        if is_primary():
            tqdm.write(f"bad record, skipped ({len(self.bad):,} of {len(self):,}): {error}")


def samples(source: GoodSamples, config: TrainingConfig, grid: int) -> grain.MapDataset[Sample]:
    """Return the endless samples in the order of a run, as they enter its batches.

    Args:
        source: The samples.
        config: The configuration with the crop, the resolution and the seed.
        grid: Crops start at multiples of this, so that the low-resolution image can be computed from a crop.
    """
    data = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    if config.resolution is not None:
        data = data.map(_downsampling(config.resolution))
    if grid > 1:
        data = data.map(_with_low_res(grid))
    if config.crop is not None:
        data = data.random_map(_cropping(config.crop, grid))
    return data


def batches(
    data: grain.MapDataset[Sample], config: TrainingConfig, encoder: TextEncoder, dropped_text: DroppedText
) -> grain.DatasetIterator[LoadedBatch]:
    """Return an endless stream of batches that a checkpoint can store.

    Args:
        data: The result of `samples`.
        config: The configuration with the batch size and the number of neighbors.
        encoder: The text encoder.
        dropped_text: What the networks see in place of a dropped text.
    """

    def batch(batch_samples: list[Sample]) -> LoadedBatch:
        rows = collate(batch_samples, encoder, config.neighbors, dropped_text)
        return LoadedBatch(rows, tuple(sample.location for sample in batch_samples))

    batched = data.batch(config.batch_size, drop_remainder=True, batch_fn=batch)
    return iter(batched.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)))


def _cropping(side: int, grid: int) -> Callable[[Sample, np.random.Generator], Sample]:
    """Return a function that crops one random square of the image and its neighbors, at multiples of `grid` pixels.

    Neighbors that state where their objects are in the image stay whole: instead, the crop moves their placements.
    """

    def crop(sample: Sample, rng: np.random.Generator) -> Sample:
        height, width, _ = sample.image.shape
        top = int(rng.integers((height - side) // grid + 1)) * grid
        left = int(rng.integers((width - side) // grid + 1)) * grid

        def part(image: Image8) -> UInt8[np.ndarray, "side side *channels"]:
            return image[top : top + side, left : left + side]

        neighbors = tuple(
            replace(one, image=part(one.image))
            if one.truth is None
            else replace(one, truth=one.truth.within(left / width, top / height, side / width))
            for one in sample.neighbors
        )
        cropped = replace(sample, image=part(sample.image), neighbors=neighbors)
        if sample.low_res is None:
            return cropped
        top, left, within = top // grid, left // grid, side // grid
        return replace(cropped, low_res=sample.low_res[top : top + within, left : left + within])

    return crop


def _with_low_res(factor: int) -> Callable[[Sample], Sample]:
    """Return a function that adds the downsampled image to samples without a low-resolution image."""

    def add(sample: Sample) -> Sample:
        if sample.low_res is not None:
            return sample
        height, width, _ = sample.image.shape
        squares = sample.image.reshape(height // factor, factor, width // factor, factor, 3)
        return replace(sample, low_res=np.rint(squares.mean(axis=(1, 3))).astype(np.uint8))

    return add


def _downsampling(side: int) -> Callable[[Sample], Sample]:
    """Return a function that downsamples the image to a side, and its neighbors by the same factor."""

    def downsample(sample: Sample) -> Sample:
        scale = side / sample.image.shape[0]

        def change(image: Image8) -> UInt8[np.ndarray, "h w *channels"]:
            height, width = (round(scale * length) for length in image.shape[:2])
            return np.asarray(Image.fromarray(image).resize((width, height), _BOX))

        resized = _changed(sample, change)
        return resized if sample.low_res is None else replace(resized, low_res=change(sample.low_res))

    return downsample


def _changed(sample: Sample, change: Callable[[Image8], Image8]) -> Sample:
    neighbors = tuple(
        replace(one, image=change(one.image), matte=None if one.matte is None else change(one.matte))
        for one in sample.neighbors
    )
    return replace(sample, image=change(sample.image), neighbors=neighbors)
