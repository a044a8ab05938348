"""The stream of batches: shuffled, cropped, without bad records, at a position that a checkpoint holds."""

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
    """A batch, and where each of its images came from."""

    rows: Batch
    places: tuple[str, ...]


class GoodSamples:
    """A source's samples, the next good one in the place of each bad record, which is told once.

    Which sample has which index depends on the data alone, so that a run that goes on sees what it would have seen.
    """

    def __init__(self, source: ShardSource) -> None:
        self._source = source
        self.bad: dict[int, BadRecord] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        """A sample.

        Raises:
            ValueError: all records are bad.
        """
        count = len(self._source)
        for place in chain(range(index, count), range(index)):
            if place not in self.bad:
                try:
                    return self._source[place]
                except BadRecord as error:
                    self._tell(place, error)
        raise ValueError(f"data: none of the {count:,} records in {self._source.folder} can be used")

    def _tell(self, place: int, error: BadRecord) -> None:
        self.bad[place] = error
        if is_primary():
            tqdm.write(f"bad record, skipped ({len(self.bad):,} of {len(self):,}): {error}")


def samples(source: GoodSamples, config: TrainingConfig, grid: int) -> grain.MapDataset[Sample]:
    """The samples in the order of a run, endlessly, as its batches are made of.

    Args:
        source: of the samples.
        config: names the crop, the resolution and the seed.
        grid: crops begin at multiples of this, so that the smaller image can be computed from a crop.
    """
    data = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    if config.resolution is not None:
        data = data.map(_shrinking(config.resolution))
    if grid > 1:
        data = data.map(_with_smaller(grid))
    if config.crop is not None:
        data = data.random_map(_cropping(config.crop, grid))
    return data


def batches(
    data: grain.MapDataset[Sample], config: TrainingConfig, encoder: TextEncoder, dropped_text: DroppedText
) -> grain.DatasetIterator[LoadedBatch]:
    """An endless, checkpointable stream of batches.

    Args:
        data: what `samples` gives.
        config: names the batch size and the number of neighbors.
        encoder: of the texts.
        dropped_text: what stands for a text that is dropped.
    """

    def batch(found: list[Sample]) -> LoadedBatch:
        rows = collate(found, encoder, config.neighbors, dropped_text)
        return LoadedBatch(rows, tuple(sample.place for sample in found))

    batched = data.batch(config.batch_size, drop_remainder=True, batch_fn=batch)
    return iter(batched.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)))


def _cropping(side: int, grid: int) -> Callable[[Sample, np.random.Generator], Sample]:
    """Cuts the same random square out of the image and its neighbors, at multiples of `grid` pixels."""

    def crop(sample: Sample, rng: np.random.Generator) -> Sample:
        height, width, _ = sample.image.shape
        top = int(rng.integers((height - side) // grid + 1)) * grid
        left = int(rng.integers((width - side) // grid + 1)) * grid
        cropped = _changed(sample, lambda image: image[top : top + side, left : left + side])
        if sample.low_res is None:
            return cropped
        top, left, within = top // grid, left // grid, side // grid
        return replace(cropped, low_res=sample.low_res[top : top + within, left : left + within])

    return crop


def _with_smaller(factor: int) -> Callable[[Sample], Sample]:
    """Gives the samples without a smaller image one: their image, shrunk."""

    def add(sample: Sample) -> Sample:
        if sample.low_res is not None:
            return sample
        height, width, _ = sample.image.shape
        squares = sample.image.reshape(height // factor, factor, width // factor, factor, 3)
        return replace(sample, low_res=np.rint(squares.mean(axis=(1, 3))).astype(np.uint8))

    return add


def _shrinking(side: int) -> Callable[[Sample], Sample]:
    """Shrinks the image to a side, and its neighbors by as much."""

    def downsample(sample: Sample) -> Sample:
        scale = side / sample.image.shape[0]

        def change(image: Image8) -> Image8:
            height, width = (round(scale * length) for length in image.shape[:2])
            return np.asarray(Image.fromarray(image).resize((width, height), _BOX))

        shrunk = _changed(sample, change)
        return shrunk if sample.low_res is None else replace(shrunk, low_res=change(sample.low_res))

    return downsample


def _changed(sample: Sample, change: Callable[[Image8], Image8]) -> Sample:
    neighbors = tuple(
        replace(one, image=change(one.image), matte=None if one.matte is None else change(one.matte))
        for one in sample.neighbors
    )
    return replace(sample, image=change(sample.image), neighbors=neighbors)
