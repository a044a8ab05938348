"""Reading of training shards: WebDataset tar files of images with their captions and neighbors.

A record has the members KEY.png (or .webp, .jpg), KEY.txt, and KEY.neighbor0.png, KEY.neighbor0.txt,
KEY.neighbor1.png … Composed records also state where the object of each neighbor is: KEY.neighbor0.matte.png,
KEY.neighbor0.json. KEY.low.png is the low-resolution image of a super-resolution stage, if it is not the downsampled
image (`training/redrawing.py`). Shards are indexed once by their headers and read at random. So every epoch is shuffled
over all shards, and the position in the data is one number, which a checkpoint stores.
"""

import os
import posixpath
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grain
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import InvalidArgument
from reimagen_common.hidden import is_hidden
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.references import decode
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.placement import COPIES, Placements, canvas_of
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.training.loss import Batch
from reimagen_generator.training.placement import ReferenceTruth

Pixels = UInt8[np.ndarray, "height width 3"]

_IMAGES = ("png", "webp", "jpg", "jpeg")
_LOW_RES = "low.png"


class NeighborTruth(BaseModel):
    """Where a neighbor's object is in the neighbor and in the image, as stated in KEY.neighborN.json."""

    model_config = ConfigDict(frozen=True)

    box: tuple[float, float, float] = Field(
        description="Center and longest edge of the object, in shares of the neighbor's side."
    )
    placements: tuple[tuple[float, float, float, float, float], ...] = Field(
        max_length=COPIES,
        description="For each copy in the image: center, longest edge, 1 if mirrored, angle in radians.",
    )

    def within(self, left: float, top: float, side: float) -> Self:
        """Return the truth about a square crop of the image.

        Args:
            left: Left edge of the crop, in shares of the image's side.
            top: Top edge of the crop.
            side: Side of the crop.
        """
        moved = tuple(
            ((x - left) / side, (y - top) / side, size / side, mirrored, angle)
            for x, y, size, mirrored, angle in self.placements
        )
        return self.model_copy(update={"placements": moved})


@dataclass(frozen=True)
class SampleNeighbor:
    """A neighbor of a sample; a neighbor of a composed sample has the truth about its object."""

    image: Pixels
    caption: str
    matte: UInt8[np.ndarray, "height width"] | None = None
    """The opacity of the object in each pixel."""
    truth: NeighborTruth | None = None


@dataclass(frozen=True)
class Sample:
    """A decoded training sample. All of its neighbors have one size, that of the image or a multiple."""

    image: Pixels
    caption: str
    neighbors: tuple[SampleNeighbor, ...]
    location: str = ""
    """The shard and the key in it."""
    low_res: Pixels | None = None
    """The low-resolution image of a super-resolution stage, KEY.low.png; None to downsample the image."""


class BadRecord(ValueError):
    """An invalid record; the message names its shard and key."""


@dataclass(frozen=True)
class _Record:
    """The members of a record in its shard: offset and size, by the part of their names after the key."""

    shard: Path
    key: str
    members: dict[str, tuple[int, int]]

    def read(self, selects: Callable[[str], bool]) -> dict[str, bytes]:
        with self.shard.open("rb") as shard:
            return {
                name: os.pread(shard.fileno(), size, offset)
                for name, (offset, size) in self.members.items()
                if selects(name)
            }

    @property
    def location(self) -> str:
        return f"{self.shard}, {self.key}"


class ShardSource(grain.sources.RandomAccessDataSource[Sample]):
    """Random access to the samples of all shards of a folder."""

    def __init__(self, folder: Path, side: int | None = None, low_res_side: int | None = None) -> None:
        """Index the shards.

        Args:
            folder: Folder of the shards.
            side: Required side of the images, all of them squares, in pixels; None for images of any size.
            low_res_side: Required side of the low-resolution images, in pixels; None for any size.

        Raises:
            ValueError: The folder contains no shard; or a shard is truncated, is not a tar file, or contains no record.
        """
        paths = sorted(path for path in folder.glob("*.tar") if not is_hidden(path.name))
        if not paths:
            raise ValueError(f"data: no shard (*.tar) in {folder}")
        self.folder = folder
        self._side, self._low_res_side = side, low_res_side
        shards = [_index(path) for path in paths]
        self._records = [record for shard in shards for record in shard]
        self._first = np.cumsum([0] + [len(shard) for shard in shards[:-1]]).tolist()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample.

        Raises:
            BadRecord: The record is invalid.
        """
        record = self._records[index]
        try:
            return _decode(record.read(lambda name: True), self._side, self._low_res_side, record.location)
        except (ValueError, InvalidArgument) as error:
            raise BadRecord(f"{record.location}: {error}") from error

    def members(self, index: int) -> tuple[str, dict[str, bytes]]:
        """Return a record's key, and its members by the part of their names after the key."""
        record = self._records[index]
        return record.key, record.read(lambda name: True)

    def check(self) -> None:
        """Raise an error if every shard's first record is invalid; stop at the first valid one.

        Raises:
            ValueError: All first records are invalid; the message describes the first one.
        """
        first_error: BadRecord | None = None
        for index in self._first:
            try:
                self[index]
            except BadRecord as error:
                first_error = first_error or error
            else:
                return
        raise ValueError(f"data: the first record of every shard is invalid; {first_error}")

    def texts(self) -> set[str]:
        """Return all texts, including those of the neighbors."""
        texts = (record.read(lambda name: name.endswith("txt")) for record in self._records)
        # A record with a text that is not UTF-8 is invalid, and reported when it is read.
        return {text.decode(errors="replace") for members in texts for text in members.values()}


def _index(path: Path) -> list[_Record]:
    records: dict[str, _Record] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                folder, name = posixpath.split(member.name)
                key, _, extension = name.partition(".")
                key = posixpath.join(folder, key)
                record = records.setdefault(key, _Record(path, key, {}))
                if extension != "json":
                    record.members[extension] = (member.offset_data, member.size)
            end = shard.offset
    except tarfile.ReadError as error:
        raise ValueError(f"data: {path} is truncated or not a tar file ({error}); write or copy it again") from error
    # tarfile also stops without error where a shard was truncated or is damaged.
    with path.open("rb") as file:
        if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"data: {path} is truncated or damaged at byte {end:,}; write or copy it again")
    if not records:
        raise ValueError(f"data: {path} contains no record; write it again or remove it")
    return list(records.values())


def _decode(members: Mapping[str, bytes], side: int | None, low_res_side: int | None, location: str) -> Sample:
    names = {name.partition(".")[0] for name in members if name.startswith("neighbor")}
    ranked = sorted(names, key=lambda name: (len(name), name))
    image, text = _pair(members, "", side)
    low_res = decode(members[_LOW_RES], field=_LOW_RES) if _LOW_RES in members else None
    if low_res is not None and low_res_side is not None and low_res.shape[:2] != (low_res_side, low_res_side):
        height, width, _ = low_res.shape
        expected = f"{low_res_side} × {low_res_side} pixels, the size that the stage upsamples"
        raise ValueError(f"{_LOW_RES}: must have {expected}, got {width} × {height}")
    neighbors = tuple(_neighbor(members, f"{name}.", side) for name in ranked)
    if any(neighbor.image.shape != neighbors[0].image.shape for neighbor in neighbors):
        raise ValueError("the images of the neighbors must all have one size")
    return Sample(image, text, neighbors, location, low_res)


def _neighbor(members: Mapping[str, bytes], prefix: str, side: int | None) -> SampleNeighbor:
    image, text = _pair(members, prefix, side, multiple=True)
    if f"{prefix}json" not in members:
        return SampleNeighbor(image, text)
    if f"{prefix}matte.png" not in members:
        raise ValueError(f"there is {prefix}json, but no {prefix}matte.png")
    truth = NeighborTruth.model_validate_json(members[f"{prefix}json"])
    matte = decode(members[f"{prefix}matte.png"], field=f"{prefix}matte.png")[..., 0]
    if matte.shape != image.shape[:2]:
        raise ValueError(f"{prefix}matte.png: must have the size of its neighbor's image")
    return SampleNeighbor(image, text, matte, truth)


def _pair(members: Mapping[str, bytes], prefix: str, side: int | None, *, multiple: bool = False) -> tuple[Pixels, str]:
    """Return an image and its caption.

    Args:
        members: The members of the record.
        prefix: Prefix of the names of the two.
        side: Required side of the image, in pixels; None for any size.
        multiple: Accept multiples of the side too.
    """
    found = [name for kind in _IMAGES if (name := f"{prefix}{kind}") in members]
    if not found:
        raise ValueError(f"there is no image, {prefix}png, {prefix}webp or {prefix}jpg")
    if f"{prefix}txt" not in members:
        raise ValueError(f"there is no text, {prefix}txt")
    image = decode(members[found[0]], field=found[0])
    height, width, _ = image.shape
    if side is not None and (height != width or (height % side if multiple else height - side)):
        raise ValueError(
            f"{found[0]}: must have {side} × {side} pixels, got {width} × {height}; "
            f"`reimagen-retriever neighbors --size {side}` writes such shards"
        )
    return image, members[f"{prefix}txt"].decode()


def collate(
    samples: list[Sample], encoder: TextEncoder, neighbors: int, dropped_text: DroppedText = DroppedText.MASKED
) -> Batch:
    """Return a batch of samples; images with fewer neighbors than `neighbors` are padded with masked ones."""
    sizes = [neighbor.image.shape for sample in samples for neighbor in sample.neighbors]
    filler = SampleNeighbor(np.zeros(sizes[0] if sizes else samples[0].image.shape, np.uint8), "")
    filled = [(list(s.neighbors) + [filler] * neighbors)[:neighbors] for s in samples]
    mask = [[i < len(s.neighbors) for i in range(neighbors)] for s in samples]
    shape = (len(samples), neighbors, *filler.image.shape)
    neighbor_images = np.array([[neighbor.image for neighbor in row] for row in filled], np.uint8).reshape(shape)
    has_truth = neighbors > 0 and any(neighbor.truth for row in filled for neighbor in row)

    low_res = [s.low_res for s in samples if s.low_res is not None]

    def encoded(texts: list[str]) -> Text:
        embedding = encoder.encode(texts)
        return Text(jnp.asarray(embedding.tokens), jnp.asarray(embedding.mask))

    return Batch(
        image=jnp.asarray(np.stack([s.image for s in samples])),
        text=encoded([s.caption for s in samples]),
        neighbor_images=jnp.asarray(neighbor_images),
        neighbor_text=encoded([neighbor.caption for row in filled for neighbor in row]),
        neighbor_mask=jnp.asarray(mask, bool).reshape(len(samples), neighbors),
        empty_text=encoded([""] * len(samples)) if dropped_text is DroppedText.EMPTY_PROMPT else None,
        truth=_reference_truth(filled) if has_truth else None,
        low_res=jnp.asarray(np.stack(low_res)) if len(low_res) == len(samples) else None,
    )


def _reference_truth(rows: list[list[SampleNeighbor]]) -> ReferenceTruth:
    """Return the truth about the neighbors of a batch; neighbors without truth have no placement."""
    unplaced = NeighborTruth(box=(0.5, 0.5, 1.0), placements=())
    truths = [[neighbor.truth or unplaced for neighbor in row] for row in rows]
    copies = np.zeros((len(rows), len(rows[0]), COPIES, 6), np.float32)
    copies[..., 2] = 0.5
    for number, row in enumerate(truths):
        for rank, truth in enumerate(row):
            for copy, placement in enumerate(truth.placements):
                copies[number, rank, copy] = (*placement, 1.0)
    empty = np.zeros(rows[0][0].image.shape[:2], np.uint8)
    mattes = [[empty if neighbor.matte is None else neighbor.matte for neighbor in row] for row in rows]
    placements = Placements(
        box=jnp.asarray([[truth.box for truth in row] for row in truths], jnp.float32),
        center=jnp.asarray(copies[..., :2]),
        size=jnp.asarray(copies[..., 2]),
        mirrored=jnp.asarray(copies[..., 3] > 0.5),
        angle=jnp.asarray(copies[..., 4]),
        present=jnp.asarray(copies[..., 5] > 0.5),
    )
    canvas = [canvas_of([neighbor.caption for neighbor in row]) for row in rows]
    return ReferenceTruth(jnp.asarray(np.array(mattes)), placements, jnp.asarray(canvas, jnp.int32))
