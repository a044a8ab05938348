"""Does a stage use its references? Its loss with the right neighbors, with another picture's, and with none.

All three see the same pictures, noise and times. Neighbors that help only by being there would help as much when
they are another picture's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.diffusion.cascade import Cascade, size_factor
from reimagen_generator.networks.network import Network
from reimagen_generator.training.data import ShardSource, collate
from reimagen_generator.training.loss import Batch, Draws, loss_by_row

_BATCH = 16


@dataclass(frozen=True)
class ReferenceUse:
    """Mean losses at one time of the diffusion, in [0, 1], 1 being pure noise."""

    time: float
    right: float
    shuffled: float
    none: float


def reference_use(
    weights: Path,
    stage: int,
    data: Path,
    count: int,
    neighbors: int,
    times: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
) -> Iterator[ReferenceUse]:
    """Measures one stage on the first `count` samples, rounded down to whole batches of 16.

    Args:
        weights: folder of a cascade.
        stage: which of its stages.
        data: folder of training shards.
        count: how many samples.
        neighbors: of each sample, the first of them.
        times: of the diffusion, in [0, 1].

    Raises:
        ValueError: the weights or the data cannot be read, or there are fewer than 16 samples.
    """
    cascade = Cascade.load(weights)
    config, factor = cascade.config.stages[stage], size_factor(cascade.config, stage)
    network = cascade.networks[stage]
    source = ShardSource(data)
    count = min(count, len(source)) // _BATCH * _BATCH
    if count == 0:
        raise ValueError(f"count: at least {_BATCH} samples are needed")
    encoder = cascade.text_encoder
    batches = [collate([source[i + j] for j in range(_BATCH)], encoder, neighbors) for i in range(0, count, _BATCH)]
    for time in times:
        losses = [
            [_losses(network, config, factor, kind, time, number) for kind in _kinds(batch)]
            for number, batch in enumerate(batches)
        ]
        right, shuffled, none = np.mean(losses, axis=(0, 2))
        yield ReferenceUse(time, float(right), float(shuffled), float(none))


def _kinds(batch: Batch) -> tuple[Batch, Batch, Batch]:
    """The batch with its own neighbors, with those of the next picture, and with none."""
    k = batch.neighbor_mask.shape[1]
    shuffled = replace(
        batch,
        neighbor_pictures=jnp.roll(batch.neighbor_pictures, 1, axis=0),
        neighbor_text=jax.tree.map(lambda rows: jnp.roll(rows, k, axis=0), batch.neighbor_text),
        neighbor_mask=jnp.roll(batch.neighbor_mask, 1, axis=0),
    )
    return batch, shuffled, replace(batch, neighbor_mask=jnp.zeros_like(batch.neighbor_mask))


def _losses(
    network: Network, config: StageConfig, factor: int | None, batch: Batch, time: float, number: int
) -> Float[np.ndarray, " rows"]:
    keys = jax.random.split(jax.random.key(number))
    rows, shape = batch.picture.shape[0], batch.picture.shape
    draws = Draws(
        time=jnp.full(rows, time),
        noise=jax.random.normal(keys[0], shape),
        augmentation=jnp.full(rows, config.augmentation),
        augmentation_noise=jax.random.normal(keys[1], shape),
        keep_text=jnp.ones(rows, bool),
        keep_neighbors=jnp.ones(batch.neighbor_mask.shape, bool),
    )
    return np.asarray(_compiled(network, config, factor, batch, draws))


_compiled = nnx.jit(loss_by_row, static_argnums=(1, 2))
