"""One stage of the cascade: a network with its schedule, prediction type, guidance and sampler.

A stage's step is one function of arrays, shared by all that samples: `sample`, a Python generator, so that whoever
drives it can show progress, take a preview, or stop, and `sample_at_once`, a compiled loop.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key

from reimagen_generator.config.cascade import Guidance, StageConfig, Strategy, Upsampling
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.diffusion.resize import downsample, low_res_consistent, upsample
from reimagen_generator.diffusion.samplers.registry import build_sampler
from reimagen_generator.diffusion.samplers.sampler import Step
from reimagen_generator.diffusion.thresholding import threshold
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text, in_compute_type
from reimagen_generator.networks.placement import PlacedReferences
from reimagen_generator.parallel.sharding import constrain_rows, place_parameters, place_rows, unshard

_Images = Float[Array, "batch height width 3"]
_State = tuple[_Images, Any]  # x and the sampler's carry
_CHANNELS = 3

# Each use of randomness has a key of its own, so that adding one never changes another.
_INITIAL, _AUGMENTATION, _STEP_NOISE, _INTERLEAVE = range(4)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditions:
    """What an image is drawn from, the same at every step.

    `empty_text`, for each image, is what stands for no text where guidance drops it; None masks the text. `low_res`
    is the image that a consistent stage keeps to.
    """

    text: Text
    neighbors: Neighbors | None
    low_resolution: LowResolution | None
    empty_text: Text | None = None
    low_res: Float[Array, "batch h w 3"] | None = None


@dataclass(frozen=True)
class Sampled:
    """The state after a step."""

    step: int
    x: _Images
    x_0: _Images
    evaluations: int
    """How often the network was evaluated for each image."""


class Stage:
    """Samples images of one size."""

    def __init__(self, config: StageConfig, network: Network, factor: int | None, mesh: Mesh | None = None) -> None:
        """Takes a network.

        Args:
            factor: this stage's size over the previous one's; None for the first.
            mesh: the devices to draw on, parameters and rows shared out over them; None for where the network is.
        """
        self.config = config
        self.factor = factor
        self._sampler = build_sampler(config.sampler)
        self._mesh = mesh
        self._graph, parameters = nnx.split(network)
        self.parameters = place_parameters(in_compute_type(parameters, config.network.dtype), mesh)

    @property
    def network(self) -> Network:
        """The stage's network."""
        return nnx.merge(self._graph, self.parameters)

    def conditions(
        self,
        text: Text,
        neighbor_images: Float[Array, "batch neighbors height width 3"] | None,
        neighbor_text: Text,
        neighbor_mask: Array,
        previous: _Images | None,
        keys: Key[Array, " batch"],
        empty_text: Text | None = None,
        placed: PlacedReferences | None = None,
    ) -> Conditions:
        """Everything that does not change from step to step, neighbor maps among it.

        Args:
            text: the prompts.
            neighbor_images: in [-1, 1], of this stage's size; None for a network that looks at no neighbors.
            neighbor_text: of batch × neighbors rows.
            neighbor_mask: which neighbors are there.
            previous: the previous stage's images in [-1, 1]; None for the first stage.
            keys: one for each image.
            empty_text: what stands for no text, for each image; None where a text is dropped by its mask.
            placed: the neighbors' things at their places, for a network that takes them.
        """
        rows = (text, neighbor_images, neighbor_text, neighbor_mask, previous, keys, empty_text, placed)
        conditions: Conditions = self._conditions(self.parameters, *place_rows(rows, self._mesh))
        return conditions

    @partial(jax.jit, static_argnums=0)
    def _conditions(
        self,
        parameters: nnx.State[Any, Any],
        text: Text,
        neighbor_images: Float[Array, "batch neighbors height width 3"] | None,
        neighbor_text: Text,
        neighbor_mask: Array,
        previous: _Images | None,
        keys: Key[Array, " batch"],
        empty_text: Text | None,
        placed: PlacedReferences | None,
    ) -> Conditions:
        network: Network = nnx.merge(self._graph, unshard(parameters, self._mesh))
        neighbors = None
        if neighbor_images is not None and self.config.network.retrieval:
            neighbors = encode_neighbors(
                network, neighbor_images, neighbor_text, neighbor_mask, self.factor, self.config.upsampling
            )
            neighbors = replace(neighbors, placed=placed)
        low_resolution = None
        if previous is not None and self.factor is not None:
            level = jnp.full(previous.shape[0], self.config.augmentation)
            noise = _noise(keys, _AUGMENTATION, 0, (len(keys), self.config.size, self.config.size, _CHANNELS))
            low_resolution = augment(self.config, previous, self.factor, level, noise)
        low_res = previous if self.config.low_res_consistency else None
        return constrain_rows(Conditions(text, neighbors, low_resolution, empty_text, low_res), self._mesh)

    def lower_conditions(self, *rows: Any) -> jax.stages.Lowered:
        """`conditions`, ready to be compiled, for shapes of its arguments and of parameters."""
        return Stage._conditions.lower(self, self.parameters, *place_rows(rows, self._mesh))

    def lower_step(
        self, conditions: Conditions, strategy: Strategy | None, keys: Key[Array, " batch"]
    ) -> jax.stages.Lowered:
        """A step of `sample`, ready to be compiled, for shapes of the conditions, keys and parameters."""
        x = jax.eval_shape(self._noise, keys)
        carry = jax.eval_shape(self._sampler.initialize, x)
        rows = place_rows((x, carry, conditions, keys), self._mesh)
        weights = jax.eval_shape(partial(guiding.weights, self.config.guidance))
        step, times = jax.eval_shape(lambda: (jnp.zeros((), jnp.int32), jnp.zeros(3)))
        x, carry, conditions, keys = rows
        return Stage._step.lower(self, strategy, self.parameters, x, carry, step, times, conditions, weights, keys)

    def sample(
        self, conditions: Conditions, guidance: Guidance, keys: Key[Array, " batch"], steps_factor: float = 1.0
    ) -> Iterator[Sampled]:
        """Yields after each of `steps_factor` times the stage's own steps; the last `x` is the result, in [-1, 1]."""
        strategy, guided, steps = self._plan(conditions, guidance, steps_factor)
        weights = guiding.weights(guidance)
        keys = place_rows(keys, self._mesh)
        x = self._noise(keys)
        carry = self._sampler.initialize(x)
        for step, at in enumerate(steps):
            used = strategy if guided[step] else None
            x, x_0, carry = self._step(used, self.parameters, x, carry, step, at, conditions, weights, keys)
            yield Sampled(step + 1, x, x_0, guiding.EVALUATIONS[used])

    def sample_at_once(self, conditions: Conditions, guidance: Guidance, keys: Key[Array, " batch"]) -> _Images:
        """What the last step of `sample` gives, by one compiled loop: the host has no part in the steps."""
        strategy, guided, steps = self._plan(conditions, guidance)
        weights = guiding.weights(guidance)
        mixed = None if guided.all() else guided
        keys = place_rows(keys, self._mesh)
        x: _Images = self._loop(strategy, self.parameters, mixed, steps, conditions, weights, keys)
        return x

    def redraw(
        self, pictures: _Images, time: float, conditions: Conditions, guidance: Guidance, keys: Key[Array, " batch"]
    ) -> _Images:
        """Return images in [-1, 1] noised to the first step that begins at `time` or later, and drawn from there.

        They keep their composition and get the errors of this stage's own images.

        Raises:
            ValueError: no step begins at `time` or before.
        """
        strategy, guided, steps = self._plan(conditions, guidance)
        left = [step for step in range(len(steps)) if steps[step, 0] <= time]
        if not left:
            raise ValueError(f"time: must be at least {steps[:, 0].min():.3f}, the last step's, got {time}")
        weights = guiding.weights(guidance)
        alpha, sigma = schedule.alpha_sigma(jnp.asarray(steps[left[0], 1]))
        x = alpha * pictures + sigma * self._noise(keys)
        carry = self._sampler.initialize(x)
        for step in left:
            used = strategy if guided[step] else None
            x, _, carry = self._step(used, self.parameters, x, carry, step, steps[step], conditions, weights, keys)
        return x

    def _plan(
        self, conditions: Conditions, guidance: Guidance, steps_factor: float = 1.0
    ) -> tuple[Strategy | None, Bool[np.ndarray, " steps"], Float[np.ndarray, "steps 3"]]:
        """The strategy of the guided steps, which steps these are, and t, λ_t and λ_s of each."""
        self.config.check_guidance(guidance)
        any_neighbor = conditions.neighbors is not None and bool(conditions.neighbors.mask.any())
        grid = schedule.sampling_schedule(self.config.with_steps(steps_factor))
        steps = np.stack([grid.time, grid.log_snr[:-1], grid.log_snr[1:]], axis=1)
        return guiding.strategy_of(guidance, neighbors=any_neighbor), guiding.guided(guidance, grid.log_snr[:-1]), steps

    @partial(jax.jit, static_argnums=(0, 1))
    def _loop(
        self,
        strategy: Strategy | None,
        parameters: nnx.State[Any, Any],
        guided: Bool[Array, " steps"] | None,
        steps: Float[Array, "steps 3"],
        conditions: Conditions,
        weights: guiding.Weights,
        keys: Key[Array, " batch"],
    ) -> _Images:
        def body(state: _State, at: tuple[Any, ...]) -> tuple[_State, None]:
            step, times, is_guided = at

            def advance(used: Strategy | None) -> _State:
                x, _, carry = self._advance(used, parameters, *state, step, times, conditions, weights, keys)
                return x, carry

            if is_guided is None:
                return advance(strategy), None
            return jax.lax.cond(is_guided, lambda: advance(strategy), lambda: advance(None)), None

        x = self._noise(keys)
        (x, _), _ = jax.lax.scan(body, (x, self._sampler.initialize(x)), (jnp.arange(len(steps)), steps, guided))
        return x

    def _advance(
        self,
        strategy: Strategy | None,
        parameters: nnx.State[Any, Any],
        x: _Images,
        carry: Any,
        step: Array | int,
        times: Float[Array, "3"],
        conditions: Conditions,
        weights: guiding.Weights,
        keys: Key[Array, " batch"],
    ) -> tuple[_Images, _Images, Any]:
        """One step: x_s, the predicted x_0 and the sampler's carry."""
        network: Network = nnx.merge(self._graph, unshard(parameters, self._mesh))
        t, log_snr_t, log_snr_s = (jnp.full(x.shape[0], times[i]) for i in range(3))
        r = jax.vmap(lambda key: jax.random.uniform(_key(key, _INTERLEAVE, step)))(keys)
        keep = guiding.evaluations(strategy, weights.interleave_ratio, r)
        rows = keep.text.shape[0]
        stacked: Conditions = jax.tree.map(lambda a: jnp.concatenate([a] * rows), conditions)
        text = guiding.drop_text(stacked.text, keep.text.reshape(-1), stacked.empty_text)
        neighbors = stacked.neighbors and replace(
            stacked.neighbors, mask=stacked.neighbors.mask & keep.neighbors.reshape(-1, 1)
        )
        stacked_x = jnp.concatenate([x] * rows)
        text, neighbors, stacked, stacked_x = constrain_rows((text, neighbors, stacked, stacked_x), self._mesh)
        output = network(stacked_x, jnp.tile(t, rows), text, neighbors, stacked.low_resolution).astype(x.dtype)
        if self.config.network.placed:
            output = copied(self.config.prediction, output, neighbors, stacked_x, jnp.tile(log_snr_t, rows))
        # The variance, where one is learned, is that of the rows that keep everything.
        output, variance = output[..., :_CHANNELS], output[: x.shape[0], ..., _CHANNELS:]
        epsilons = prediction.to_epsilon(self.config.prediction, output, stacked_x, jnp.tile(log_snr_t, rows))
        epsilon = guiding.combine(strategy, epsilons.reshape(rows, *x.shape), weights, r)
        x_0 = threshold(prediction.epsilon_to_x0(epsilon, x, log_snr_t), self.config.thresholding)
        if conditions.low_res is not None and self.factor is not None:
            x_0 = low_res_consistent(x_0, conditions.low_res, self.factor, self.config.upsampling)
        x, carry = self._sampler.step(
            carry,
            Step(
                x_t=x,
                x_0=x_0,
                epsilon=prediction.x0_to_epsilon(x_0, x, log_snr_t),
                log_snr_t=log_snr_t,
                log_snr_s=log_snr_s,
                noise=_noise(keys, _STEP_NOISE, step, x.shape),
                variance=variance if self.config.network.learned_variance else None,
            ),
        )
        return constrain_rows((x, x_0, carry), self._mesh)

    _step = jax.jit(_advance, static_argnums=(0, 1))

    def _noise(self, keys: Key[Array, " batch"]) -> _Images:
        return _noise(keys, _INITIAL, 0, (len(keys), self.config.size, self.config.size, _CHANNELS))


def augment(
    stage: StageConfig, low_res: _Images, factor: int, level: Float[Array, " batch"], noise: _Images
) -> LowResolution:
    """Return the smaller image enlarged, with noise conditioning augmentation (Imagen, section 2.4).

    Args:
        stage: which enlarges; it says whether the image is noised before or after it is enlarged.
        low_res: in [-1, 1].
        factor: the stage's size over the smaller image's.
        level: the *time* to which it is noised.
        noise: normal, of the stage's size.
    """
    alpha, sigma = map(
        schedule.per_image, schedule.alpha_sigma(schedule.log_snr(stage.schedule, level, stage.log_snr_shift))
    )
    if stage.augment_before_upsampling:
        # The sum over a square of normal numbers, over its side, is normal again. The image keeps its contrast.
        noised = low_res + sigma / alpha * factor * downsample(noise, factor)
        return LowResolution(upsample(noised, factor, stage.upsampling), level)
    return LowResolution(alpha * upsample(low_res, factor, stage.upsampling) + sigma * noise, level)


def encode_neighbors(
    network: Network,
    images: Float[Array, "batch neighbors height width 3"],
    text: Text,
    mask: Array,
    factor: int | None,
    upsampling: Upsampling = Upsampling.BICUBIC,
) -> Neighbors:
    """The neighbors' keys and values; a super-resolution network sees each beside its own smaller version."""
    low_res = None
    if factor is not None:
        flat = images.reshape(-1, *images.shape[2:])
        low_res = upsample(downsample(flat, factor), factor, upsampling).reshape(images.shape)
    return network.encode_neighbors(images, text, mask, low_res)


def _key(key: Key[Array, ""], purpose: int, step: Array | int) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)


def _noise(keys: Key[Array, " batch"], purpose: int, step: Array | int, shape: tuple[int, ...]) -> _Images:
    """Normal noise, each image's from its own key: it does not depend on what else is in the batch."""
    return jax.vmap(lambda key: jax.random.normal(_key(key, purpose, step), shape[1:]))(keys)
