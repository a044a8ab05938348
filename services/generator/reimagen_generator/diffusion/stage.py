"""One stage of the cascade: a network with its schedule, prediction type, guidance and sampler.

A stage's step is one compiled function of arrays, shared by everything that samples; the loop over steps is a Python
generator, so that whoever drives it can show progress, take a preview, or stop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from reimagen_generator.config.cascade import Guidance, StageConfig, Strategy
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction, sampler, schedule
from reimagen_generator.diffusion.resize import enlarge, shrink
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text

_Images = Float[Array, "batch height width 3"]

# Each use of randomness has a key of its own, so that adding one never changes another.
_INITIAL, _AUGMENTATION, _STEP_NOISE, _INTERLEAVE = range(4)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditions:
    """What a picture is drawn from, the same at every step."""

    text: Text
    neighbors: Neighbors | None
    low_resolution: LowResolution | None


@dataclass(frozen=True)
class Sampled:
    """The state after a step."""

    step: int
    x: _Images
    x_0: _Images


class Stage:
    """Samples pictures of one size."""

    def __init__(self, config: StageConfig, network: Network, factor: int | None) -> None:
        """Takes a network.

        Args:
            factor: this stage's size over the previous one's; None for the first.
        """
        self.config = config
        self.factor = factor
        self._graph, self._parameters = nnx.split(network)

    @property
    def network(self) -> Network:
        """The stage's network."""
        return nnx.merge(self._graph, self._parameters)

    def conditions(
        self,
        text: Text,
        neighbor_images: Float[Array, "batch neighbors height width 3"],
        neighbor_text: Text,
        neighbor_mask: Array,
        previous: _Images | None,
        keys: Key[Array, " batch"],
    ) -> Conditions:
        """Everything that does not change from step to step, neighbor maps among it.

        Args:
            text: the prompts.
            neighbor_images: in [-1, 1], of this stage's size.
            neighbor_text: of batch × neighbors rows.
            neighbor_mask: which neighbors are there.
            previous: the previous stage's pictures in [-1, 1]; None for the first stage.
            keys: one for each picture.
        """
        conditions: Conditions = self._conditions(
            self._parameters, text, neighbor_images, neighbor_text, neighbor_mask, previous, keys
        )
        return conditions

    @partial(jax.jit, static_argnums=0)
    def _conditions(
        self,
        parameters: nnx.State[Any, Any],
        text: Text,
        neighbor_images: Float[Array, "batch neighbors height width 3"],
        neighbor_text: Text,
        neighbor_mask: Array,
        previous: _Images | None,
        keys: Key[Array, " batch"],
    ) -> Conditions:
        network: Network = nnx.merge(self._graph, parameters)
        neighbors = None
        if self.config.network.retrieval:
            neighbors = encode_neighbors(network, neighbor_images, neighbor_text, neighbor_mask, self.factor)
        low_resolution = None
        if previous is not None and self.factor is not None:
            level = jnp.full(previous.shape[0], self.config.augmentation)
            enlarged = enlarge(previous, self.factor)
            low_resolution = augment(self.config, enlarged, level, _noise(keys, _AUGMENTATION, 0, enlarged.shape))
        return Conditions(text, neighbors, low_resolution)

    def sample(self, conditions: Conditions, guidance: Guidance, keys: Key[Array, " batch"]) -> Iterator[Sampled]:
        """Yields after each step; the last step's `x` is the result, in [-1, 1]."""
        any_neighbor = conditions.neighbors is not None and bool(conditions.neighbors.mask.any())
        strategy = guiding.strategy_of(guidance, neighbors=any_neighbor)
        weights = guiding.weights(guidance)
        steps = self.config.steps
        x = _noise(keys, _INITIAL, 0, (len(keys), self.config.size, self.config.size, 3))
        for step in range(steps):
            times = jnp.asarray([1.0 - step / steps, 1.0 - (step + 1) / steps])
            x, x_0 = self._step(strategy, self._parameters, x, times, jnp.asarray(step), conditions, weights, keys)
            # At t = 0 nothing is left of the noise but what clipping the log-SNR leaves: the prediction is the picture.
            yield Sampled(step + 1, x_0 if step + 1 == steps else x, x_0)

    @partial(jax.jit, static_argnums=(0, 1))
    def _step(
        self,
        strategy: Strategy | None,
        parameters: nnx.State[Any, Any],
        x: _Images,
        times: Float[Array, "2"],
        step: Array,
        conditions: Conditions,
        weights: guiding.Weights,
        keys: Key[Array, " batch"],
    ) -> tuple[_Images, _Images]:
        network: Network = nnx.merge(self._graph, parameters)
        batch = x.shape[0]
        t, s = (jnp.full(batch, times[i]) for i in range(2))
        r = jax.vmap(lambda key: jax.random.uniform(_key(key, _INTERLEAVE, step)))(keys)
        keep = guiding.evaluations(strategy, weights.interleave_ratio, r)
        rows = keep.text.shape[0]
        log_snr_t, log_snr_s = (schedule.log_snr(self.config.schedule, time) for time in (t, s))
        stacked: Conditions = jax.tree.map(lambda a: jnp.concatenate([a] * rows), conditions)
        text = Text(stacked.text.tokens, stacked.text.mask & keep.text.reshape(-1, 1))
        neighbors = stacked.neighbors and Neighbors(
            stacked.neighbors.levels, stacked.neighbors.mask & keep.neighbors.reshape(-1, 1)
        )
        output = network(jnp.concatenate([x] * rows), jnp.tile(t, rows), text, neighbors, stacked.low_resolution)
        epsilons = prediction.to_epsilon(
            self.config.prediction, output, jnp.concatenate([x] * rows), jnp.tile(log_snr_t, rows)
        )
        epsilon = guiding.combine(strategy, epsilons.reshape(rows, *x.shape), weights, r)
        x_0 = sampler.threshold(prediction.epsilon_to_x0(epsilon, x, log_snr_t), self.config.thresholding)
        epsilon = prediction.x0_to_epsilon(x_0, x, log_snr_t)
        noise = _noise(keys, _STEP_NOISE, step, x.shape)
        return sampler.step(self.config.sampler, x, x_0, epsilon, log_snr_t, log_snr_s, noise), x_0


def augment(stage: StageConfig, enlarged: _Images, level: Float[Array, " batch"], noise: _Images) -> LowResolution:
    """Noise conditioning augmentation: the enlarged smaller picture, noised to *time* `level` (Imagen, section 2.4)."""
    alpha, sigma = map(schedule.per_picture, schedule.alpha_sigma(schedule.log_snr(stage.schedule, level)))
    return LowResolution(alpha * enlarged + sigma * noise, level)


def encode_neighbors(
    network: Network,
    images: Float[Array, "batch neighbors height width 3"],
    text: Text,
    mask: Array,
    factor: int | None,
) -> Neighbors:
    """The neighbors' keys and values; a super-resolution network sees each beside its own smaller version."""
    smaller = None
    if factor is not None:
        flat = images.reshape(-1, *images.shape[2:])
        smaller = enlarge(shrink(flat, factor), factor).reshape(images.shape)
    return network.encode_neighbors(images, text, mask, smaller)


def _key(key: Key[Array, ""], purpose: int, step: Array | int) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)


def _noise(keys: Key[Array, " batch"], purpose: int, step: Array | int, shape: tuple[int, ...]) -> _Images:
    """Normal noise, each picture's from its own key: it does not depend on what else is in the batch."""
    return jax.vmap(lambda key: jax.random.normal(_key(key, purpose, step), shape[1:]))(keys)
