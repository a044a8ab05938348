"""Measure whether a stage uses its references: its loss with the right neighbors, another image's, and none.

All three see the same images, noise and times. Neighbors that help only by their presence would help as much when they
are another image's.

In a cascade with a placement network, that network places the neighbors, as in generation; for the first stage it does
so at each time, from x_t. The true placements in the shards are not used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.diffusion import schedule
from reimagen_generator.diffusion.cascade import Cascade, size_factor
from reimagen_generator.diffusion.placing import Placer, groups
from reimagen_generator.diffusion.resize import downsample, to_float
from reimagen_generator.networks.network import Network
from reimagen_generator.training.data import Sample, ShardSource, collate
from reimagen_generator.training.loss import Batch, Draws, loss_by_row
from reimagen_generator.training.placement import ReferenceTruth

_BATCH = 16
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


@dataclass(frozen=True)
class ReferenceUse:
    """Mean losses at one time of the diffusion, from 0 to 1 (pure noise)."""

    time: float
    right: float
    shuffled: float
    none: float


@dataclass(frozen=True)
class _Shown:
    """A batch as a stage sees it, and which of its neighbors show the same object and so share a placement."""

    batch: Batch
    leaders: Int[Array, "batch neighbors"]
    """For each neighbor, the index of the first one with the same caption."""
    canvas: Int[Array, "batch neighbors"]
    """For each neighbor, its canvas as `canvas_of` returns it."""


def reference_use(
    weights: Path, stage: int, data: Path, count: int, neighbors: int, times: tuple[float, ...] = TIMES
) -> Iterator[ReferenceUse]:
    """Yield the losses of one stage on the first `count` samples, rounded down to whole batches of 16.

    Args:
        weights: folder of a cascade.
        stage: index of the stage.
        data: folder of training shards.
        count: number of samples.
        neighbors: number of neighbors of each sample, best first.
        times: times of the diffusion, from 0 to 1.

    Raises:
        ValueError: the weights or the data cannot be read, or there are fewer than 16 samples.
    """
    cascade = Cascade.load(weights)
    config, factor = cascade.config.stages[stage], size_factor(cascade.config, stage)
    network = cascade.networks[stage]
    placer = cascade.placer if config.network.placed else None
    source = ShardSource(data)
    count = min(count, len(source)) // _BATCH * _BATCH
    if count == 0:
        raise ValueError(f"count: at least {_BATCH} samples are needed")
    samples = [[source[i + j] for j in range(_BATCH)] for i in range(0, count, _BATCH)]
    batches = [_shown(rows, collate(rows, cascade.text_encoder, neighbors), neighbors) for rows in samples]
    for time in times:
        losses = [
            [_losses(network, config, factor, placer, kind, time, number) for kind in _kinds(shown)]
            for number, shown in enumerate(batches)
        ]
        right, shuffled, none = np.mean(losses, axis=(0, 2))
        yield ReferenceUse(time, float(right), float(shuffled), float(none))


def _shown(samples: Sequence[Sample], batch: Batch, neighbors: int) -> _Shown:
    captions = [[neighbor.caption for neighbor in sample.neighbors[:neighbors]] for sample in samples]
    return _Shown(batch, *groups(captions, neighbors))


def _kinds(shown: _Shown) -> tuple[_Shown, _Shown, _Shown]:
    """Return the batch with its own neighbors, with those of the next image, and with none."""
    batch = shown.batch
    k = batch.neighbor_mask.shape[1]
    shuffled = replace(
        batch,
        neighbor_images=jnp.roll(batch.neighbor_images, 1, axis=0),
        neighbor_text=jax.tree.map(lambda rows: jnp.roll(rows, k, axis=0), batch.neighbor_text),
        neighbor_mask=jnp.roll(batch.neighbor_mask, 1, axis=0),
    )
    others = _Shown(shuffled, jnp.roll(shown.leaders, 1, axis=0), jnp.roll(shown.canvas, 1, axis=0))
    none = replace(batch, neighbor_mask=jnp.zeros_like(batch.neighbor_mask))
    return shown, others, replace(shown, batch=none)


def _losses(
    network: Network,
    config: StageConfig,
    factor: int | None,
    placer: Placer | None,
    shown: _Shown,
    time: float,
    number: int,
) -> Float[np.ndarray, " rows"]:
    batch = shown.batch
    keys = jax.random.split(jax.random.key(number))
    rows, shape = batch.image.shape[0], batch.image.shape
    draws = Draws(
        time=jnp.full(rows, time),
        noise=jax.random.normal(keys[0], shape),
        augmentation=jnp.full(rows, config.augmentation),
        augmentation_noise=jax.random.normal(keys[1], shape),
        keep_text=jnp.ones(rows, bool),
        keep_neighbors=jnp.ones(batch.neighbor_mask.shape, bool),
    )
    if placer is not None:
        batch, draws = _placed(placer, config, factor, shown, draws, jax.random.fold_in(jax.random.key(number), 2))
    return np.asarray(_compiled(network, config, factor, batch, draws))


def _placed(
    placer: Placer, config: StageConfig, factor: int | None, shown: _Shown, draws: Draws, key: Key[Array, ""]
) -> tuple[Batch, Draws]:
    """Return the batch and the draws with mattes and placements from the placement network.

    Raises:
        ValueError: the shards' images are too small for the placement network.
    """
    batch, side, image_side = shown.batch, placer.config.side, placer.config.image_side
    rows, size = batch.image.shape[:2]
    if batch.neighbor_images.shape[2] % side or size % image_side:
        raise ValueError(
            f"data: the placement network needs neighbors of a multiple of {side} pixels and images of a multiple of "
            f"{image_side}, got {batch.neighbor_images.shape[2]} and {size}"
        )
    time, image = jnp.ones(rows), jnp.zeros((rows, image_side, image_side, 3))
    if factor is None:
        time = schedule.nearest(config.schedule, draws.time)
        log_snr = schedule.log_snr(config.schedule, time, config.log_snr_shift)
        alpha, sigma = map(schedule.per_image, schedule.alpha_sigma(log_snr))
        image = downsample(alpha * to_float(batch.image) + sigma * draws.noise, size // image_side)
    placing = placer.placing_at(
        to_float(batch.neighbor_images),
        batch.text,
        batch.neighbor_text,
        leaders=shown.leaders,
        canvas=shown.canvas,
        keys=jax.random.split(key, rows),
        image=image,
        time=time,
    )
    mattes = jnp.round(255.0 * placing.mattes).astype(jnp.uint8)
    truth = ReferenceTruth(mattes, placing.placements, placing.canvas)
    return replace(batch, truth=truth), replace(draws, placements=placing.placements)


_compiled = nnx.jit(loss_by_row, static_argnums=(1, 2))
