"""Reading training shards: WebDataset tars of a picture, its prompt and its neighbors.

A sample is the members KEY.png (or .webp, .jpg), KEY.txt, and KEY.neighbor0.png, KEY.neighbor0.txt, KEY.neighbor1.png …
Shards are indexed once by their headers and read at random, so that every epoch is shuffled anew over all of them and
the position in the data is two numbers, which a checkpoint holds.
"""

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grain
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_generator.config.text import DroppedText
from reimagen_generator.networks.network import Text
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.loss import Batch

_PICTURES = ("png", "webp", "jpg", "jpeg")


@dataclass(frozen=True)
class Sample:
    """One training sample, decoded; its pictures are all of one size."""

    picture: UInt8[np.ndarray, "height width 3"]
    text: str
    neighbors: tuple[tuple[UInt8[np.ndarray, "height width 3"], str], ...]


class ShardSource(grain.sources.RandomAccessDataSource[Sample]):
    """Random access to the samples of all shards of a folder."""

    def __init__(self, folder: Path) -> None:
        """Indexes the shards.

        Raises:
            ValueError: the folder holds no shard, or a shard holds no sample.
        """
        self._samples: list[tuple[Path, dict[str, tuple[int, int]]]] = []
        paths = sorted(folder.glob("*.tar"))
        if not paths:
            raise ValueError(f"data: no shard (*.tar) in {folder}")
        for path in paths:
            found = _index(path)
            if not found:
                raise ValueError(f"data: {path} holds no sample")
            self._samples += [(path, members) for members in found]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return _decode(self._read(index, lambda name: True))

    def texts(self) -> set[str]:
        """All texts, the neighbors' among them."""
        texts = (self._read(index, lambda name: name.endswith("txt")) for index in range(len(self)))
        return {text.decode() for members in texts for text in members.values()}

    def _read(self, index: int, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        path, members = self._samples[index]
        with path.open("rb") as shard:
            found = [(name, place) for name, place in members.items() if wanted(name)]
            return {name: os.pread(shard.fileno(), size, at) for name, (at, size) in found}


def _index(path: Path) -> list[dict[str, tuple[int, int]]]:
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(path) as shard:
        for member in shard:
            key, _, extension = member.name.partition(".")
            if extension != "json":
                samples.setdefault(key, {})[extension] = (member.offset_data, member.size)
    return list(samples.values())


def _decode(members: dict[str, bytes]) -> Sample:
    pictures = {name.rpartition(".")[0]: data for name, data in members.items() if name.endswith(_PICTURES)}
    neighbors = sorted(name for name in pictures if name)
    return Sample(
        _picture(pictures[""]),
        members["txt"].decode(),
        tuple((_picture(pictures[name]), members[f"{name}.txt"].decode()) for name in neighbors),
    )


def _picture(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@dataclass(frozen=True)
class _Crop(grain.transforms.RandomMap):
    """Cuts the same random square out of the picture and its neighbors, at multiples of `grid` pixels."""

    side: int
    grid: int

    def random_map(self, element: Sample, rng: np.random.Generator) -> Sample:
        height, width, _ = element.picture.shape
        top = int(rng.integers((height - self.side) // self.grid + 1)) * self.grid
        left = int(rng.integers((width - self.side) // self.grid + 1)) * self.grid
        window = (slice(top, top + self.side), slice(left, left + self.side))
        return Sample(
            element.picture[window], element.text, tuple((image[window], text) for image, text in element.neighbors)
        )


@dataclass(frozen=True)
class _Shrink(grain.transforms.Map):
    """Shrinks the picture and its neighbors to a side."""

    side: int

    def map(self, element: Sample) -> Sample:
        def shrink(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "side side 3"]:
            return np.asarray(Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BOX))

        neighbors = tuple((shrink(image), text) for image, text in element.neighbors)
        return Sample(shrink(element.picture), element.text, neighbors)


def collate(
    samples: list[Sample], encoder: TextEncoder, neighbors: int, dropped_text: DroppedText = DroppedText.MASKED
) -> Batch:
    """A batch of samples; pictures with fewer neighbors than `neighbors` are filled up with masked ones."""
    nothing = (np.zeros_like(samples[0].picture), "")
    filled = [(list(s.neighbors) + [nothing] * neighbors)[:neighbors] for s in samples]
    mask = [[i < len(s.neighbors) for i in range(neighbors)] for s in samples]
    shape = (len(samples), neighbors, *samples[0].picture.shape)
    pictures = np.array([[image for image, _ in row] for row in filled], np.uint8).reshape(shape)

    def encoded(texts: list[str]) -> Text:
        embedding = encoder.encode(texts)
        return Text(jnp.asarray(embedding.tokens), jnp.asarray(embedding.mask))

    return Batch(
        picture=jnp.asarray(np.stack([s.picture for s in samples])),
        text=encoded([s.text for s in samples]),
        neighbor_pictures=jnp.asarray(pictures),
        neighbor_text=encoded([text for row in filled for _, text in row]),
        neighbor_mask=jnp.asarray(mask, bool).reshape(len(samples), neighbors),
        empty_text=encoded([""] * len(samples)) if dropped_text is DroppedText.EMPTY_PROMPT else None,
    )


def batches(
    source: ShardSource, config: TrainingConfig, encoder: TextEncoder, grid: int, dropped_text: DroppedText
) -> grain.DatasetIterator[Batch]:
    """An endless, shuffled, checkpointable stream of batches.

    Args:
        source: of the samples.
        config: names the batch size, the crop, the seed.
        encoder: of the texts.
        grid: crops begin at multiples of this, so that the smaller picture can be computed from a crop.
        dropped_text: what stands for a text that is dropped.
    """
    data = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    if config.resolution is not None:
        data = data.map(_Shrink(config.resolution))
    if config.crop is not None:
        data = data.random_map(_Crop(config.crop, grid))
    data = data.batch(
        config.batch_size,
        drop_remainder=True,
        batch_fn=lambda samples: collate(samples, encoder, config.neighbors, dropped_text),
    )
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)))
