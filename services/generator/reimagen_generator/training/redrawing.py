"""Low-resolution images redrawn by the stage before, to train a super-resolution stage.

A stage that has only seen downsampled true images takes the errors of the stage before for detail and sharpens them. So
the stage before noises and redraws a share of the low-resolution images; the target remains the true image. It sees the
samples' neighbors, at most four, as when it samples, at their true placements: it then copies objects, and errs in the
rest.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from reimagen_common.progress import progress_bar
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.diffusion.resize import downsample, to_bytes, to_float
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.placement import PlacedReferences
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.training.data import Pixels, ShardSource, collate
from reimagen_generator.training.loss import Batch, of_side
from reimagen_generator.training.placement import ReferenceTruth
from reimagen_generator.weights import checkpoint

_BATCH = 16
_SHARD_SAMPLES = 500
_NEIGHBORS = 4
"""Most neighbors of a sample that the stage before sees: each costs as much as the image."""


def redraw(data: Path, out: Path, weights: Path, stage: int, *, time: float, share: float) -> None:
    """Write the samples of shards again, a share of them with a redrawn low-resolution image, KEY.low.png.

    Args:
        data: Folder of training shards whose images have the stage's size.
        out: Folder for the new shards; existing shards are not written again.
        weights: Folder of the cascade whose stage before redraws the images.
        stage: Index of the stage to train, at least 1.
        time: Time to which the low-resolution images are noised, in [0, 1].
        share: Share of the samples to redraw.

    Raises:
        ValueError: The weights or the data cannot be read, or the cascade has no such super-resolution stage.
    """
    cascade = checkpoint.load_config(weights)
    factor = size_factor(cascade, stage) if stage < len(cascade.stages) else None
    if factor is None:
        raise ValueError(
            f"stage: must be 1 to {len(cascade.stages) - 1}, the super-resolution stages of {cascade.name}, got {stage}"
        )
    before = cascade.stages[stage - 1]
    network = checkpoint.load_network(weights / checkpoint.stage_file(before.size), before.network)
    previous_stage = Stage(before, network, size_factor(cascade, stage - 1))
    source = ShardSource(data, cascade.stages[stage].size)
    encoder = load_text_encoder(cascade, weights)
    neighbors = min(_NEIGHBORS, cascade.maximum_k)
    chosen = np.random.default_rng(0).random(len(source)) < share
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar(len(source), "redrawing", "samples") as progress:
        for first in range(0, len(source), _SHARD_SAMPLES):
            indices = range(first, min(first + _SHARD_SAMPLES, len(source)))
            path = out / f"{first // _SHARD_SAMPLES:05d}.tar"
            if path.exists():
                progress.update(len(indices))
                continue
            redrawn = [index for index in indices if chosen[index]]
            low_res: dict[int, Pixels] = {}
            images = _redrawn(previous_stage, encoder, source, redrawn, neighbors, factor, time)
            for index, image in zip(redrawn, images, strict=True):
                low_res[index] = image
                progress.update(1)
            _write(path, source, indices, low_res)
            progress.update(len(indices) - len(redrawn))


def _redrawn(
    stage: Stage,
    encoder: TextEncoder,
    source: ShardSource,
    indices: list[int],
    neighbors: int,
    factor: int,
    time: float,
) -> Iterator[Pixels]:
    """Yield the redrawn, downsampled images of the samples at the given indices."""
    for part in (indices[first : first + _BATCH] for first in range(0, len(indices), _BATCH)):
        # The number of rows is constant, so that the steps are compiled once.
        rows = [*part, *part[-1:] * (_BATCH - len(part))]
        batch = collate([source[index] for index in rows], encoder, neighbors)
        yield from _draw(stage, batch, rows, factor, time)[: len(part)]


def _draw(
    stage: Stage, batch: Batch, seeds: list[int], factor: int, time: float
) -> UInt8[np.ndarray, "rows height width 3"]:
    low_res = downsample(to_float(batch.image), factor)
    previous = None if stage.factor is None else to_float(to_bytes(downsample(low_res, stage.factor)))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    conditions = stage.conditions(batch.text, _neighbors(stage, batch), previous, keys)
    return np.asarray(to_bytes(stage.redraw(low_res, time, conditions, stage.config.guidance, keys)))


def _neighbors(stage: Stage, batch: Batch) -> Neighbors | None:
    """Return the encoded neighbors of a batch; their objects are at their true placements."""
    if not stage.config.network.retrieval or not batch.neighbor_mask.shape[1]:
        return None
    images, size = to_float(batch.neighbor_images), stage.config.size
    encoded = stage.encode_neighbors(of_side(images, size), batch.neighbor_text, batch.neighbor_mask)
    if batch.truth is None or not stage.config.network.placed:
        return encoded
    return replace(encoded, placed=_placed(batch.truth, images, size))


@partial(jax.jit, static_argnums=2)
def _placed(truth: ReferenceTruth, images: Float[Array, "batch neighbors side side 3"], size: int) -> PlacedReferences:
    return truth.placed(images, truth.placements, size)


def _write(path: Path, source: ShardSource, indices: range, low_res: dict[int, Pixels]) -> None:
    """Write one shard, which gets its name when it is complete."""
    partial = path.with_suffix(".part")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as shard:
        for index in indices:
            key, members = source.members(index)
            if index in low_res:
                buffer = io.BytesIO()
                Image.fromarray(low_res[index]).save(buffer, "PNG")
                members["low.png"] = buffer.getvalue()
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    partial.rename(path)
