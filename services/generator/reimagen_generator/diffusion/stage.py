"""One stage of the cascade: a network with its schedule, prediction type, guidance and sampler.

A batch is a `SamplingState`, whose rows have their own guidance, neighbors and random key, and a `SamplingPlan`, which
has the schedule of each row. `_advance` takes each row one step of its own further and is the only sampling code:
`sample` calls it step by step, so that the caller can show progress, take a preview or stop; `sample_at_once` calls it
in one compiled loop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from reimagen_generator.config.cascade import Guidance, StageConfig, Upsampling
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.diffusion.resize import downsample, low_res_consistent, upsample
from reimagen_generator.diffusion.samplers.registry import build_sampler
from reimagen_generator.diffusion.samplers.sampler import Step
from reimagen_generator.diffusion.thresholding import threshold
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text, in_compute_type
from reimagen_generator.networks.placement import PlacedReferences
from reimagen_generator.parallel.sharding import constrain_rows, place_parameters, place_rows, unshard

_Images = Float[Array, "batch height width 3"]
_CHANNELS = 3

# Each use of randomness has a key of its own, so that adding one never changes another.
_INITIAL, _AUGMENTATION, _STEP_NOISE, _INTERLEAVE = range(4)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditions:
    """What an image is drawn from, the same at every step."""

    text: Text
    neighbors: Neighbors | None
    """With the mask of each row's neighbors."""
    low_resolution: LowResolution | None
    empty_text: Text | None = None
    """What stands for no text where guidance drops it, for each row; None masks the text."""
    low_res: Float[Array, "batch h w 3"] | None = None
    """The image that a stage with low-resolution consistency keeps to."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """What stays the same of a batch's rows while they are sampled."""

    conditions: Conditions
    guidance: guiding.GuidanceRows
    keys: Key[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SamplingState:
    """A batch in the middle of sampling."""

    x: _Images
    """x_t of each row; after its last step the result, in [-1, 1]."""
    x_0: _Images
    """The latest prediction."""
    carry: Any
    """The sampler's memory of earlier steps."""
    rows: Rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RowSteps:
    """The step that each row of a batch takes next. Rows may be at different steps of different schedules."""

    number: Int[Array, " batch"]
    """From 0; the step's noise depends on it."""
    times: Float[Array, "batch 3"]
    """t, λ_t and λ_s."""
    guided: Bool[Array, " batch"]


@dataclass(frozen=True)
class SamplingPlan:
    """All steps of a batch, on the host: schedules of any length use the same compiled step."""

    times: Float[np.ndarray, "batch steps 3"]
    guided: Bool[np.ndarray, "batch steps"]
    evaluations: Int[np.ndarray, " steps"]
    """How often each step evaluates the network for each row, if all rows take it together."""

    def at(self, step: Int[np.ndarray, " batch"]) -> RowSteps:
        """Return what each row's given step takes."""
        rows = np.arange(len(step))
        values = step.astype(np.int32), self.times[rows, step], self.guided[rows, step]
        return RowSteps(*map(jnp.asarray, values))

    def together(self, step: int) -> RowSteps:
        """Return one step for all rows."""
        return self.at(np.full(len(self.times), step))


class Stage:
    """Samples images of one size."""

    def __init__(self, config: StageConfig, network: Network, factor: int | None, mesh: Mesh | None = None) -> None:
        """Make a stage of a network.

        Args:
            config: The configuration of the stage.
            network: Its network.
            factor: This stage's size over the previous stage's; None for the first stage.
            mesh: The devices over which parameters and rows are sharded; None for the device of the network.
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
        """Return what does not change from step to step, such as the neighbors' keys and values.

        Args:
            text: The prompts.
            neighbor_images: The neighbors in [-1, 1], of this stage's size; None for a network without retrieval.
            neighbor_text: The captions, batch × neighbors rows.
            neighbor_mask: Which neighbors exist.
            previous: The previous stage's images in [-1, 1]; None for the first stage.
            keys: One key for each image.
            empty_text: The embedding that stands for no text, for each image; None drops a text by its mask.
            placed: The neighbors' objects at their places, for a network that takes them.
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
            start = jnp.zeros(len(keys), jnp.int32)
            noise = _noise(keys, _AUGMENTATION, start, (len(keys), self.config.size, self.config.size, _CHANNELS))
            low_resolution = augment(self.config, previous, self.factor, level, noise)
        low_res = previous if self.config.low_res_consistency else None
        return constrain_rows(Conditions(text, neighbors, low_resolution, empty_text, low_res), self._mesh)

    def lower_conditions(self, *rows: Any) -> jax.stages.Lowered:
        """Return `conditions`, ready to compile, for shapes of its arguments and of parameters."""
        return Stage._conditions.lower(self, self.parameters, *place_rows(rows, self._mesh))

    def lower_step(self, conditions: Conditions, count: int, keys: Key[Array, " batch"]) -> jax.stages.Lowered:
        """Return a step of `count` evaluations, ready to compile, for shapes of conditions, keys and parameters."""

        def begin(conditions: Conditions, keys: Key[Array, " batch"]) -> tuple[SamplingState, RowSteps]:
            number = jnp.ones(len(keys))
            rows = guiding.GuidanceRows(number.astype(jnp.int32), number, number, number)
            steps = RowSteps(number.astype(jnp.int32), jnp.ones((len(keys), 3)), number.astype(bool))
            return self._begin(Rows(conditions, rows, keys)), steps

        state, steps = place_rows(jax.eval_shape(begin, conditions, keys), self._mesh)
        return Stage._step.lower(self, count, self.parameters, state, steps)

    def start(
        self,
        conditions: Conditions,
        guidance: Guidance | Sequence[Guidance],
        keys: Key[Array, " batch"],
        steps_factor: float = 1.0,
    ) -> tuple[SamplingState, SamplingPlan]:
        """Return a batch before its first step, and all of its steps.

        Args:
            conditions: What the images are drawn from.
            guidance: Of all rows, or of each.
            keys: One for each row.
            steps_factor: How many times its own steps the stage takes.
        """
        each = [guidance] * len(keys) if isinstance(guidance, Guidance) else list(guidance)
        with_neighbors = np.zeros(len(keys), bool)
        if conditions.neighbors is not None:
            with_neighbors = np.asarray(conditions.neighbors.mask.any(axis=1))
        plan = schedule.sampling_schedule(self.config.with_steps(steps_factor))
        steps = np.stack([plan.time, plan.log_snr[:-1], plan.log_snr[1:]], axis=1)
        guided = np.stack([guiding.guided_steps(one, plan.log_snr[:-1]) for one in each])
        strategies = [
            guiding.resolve(one, neighbors=bool(any_)) for one, any_ in zip(each, with_neighbors, strict=True)
        ]
        rows = place_rows(Rows(conditions, guiding.guidance_rows(strategies), keys), self._mesh)
        times = np.tile(steps, (len(keys), 1, 1))
        return self._begin(rows), SamplingPlan(times, guided, guiding.evaluations_of_steps(strategies, guided))

    def advance(self, state: SamplingState, steps: RowSteps, evaluations: int) -> SamplingState:
        """Return the batch after one step of each row.

        Args:
            state: The batch.
            steps: The step that each row takes.
            evaluations: How often to evaluate the network for each row; at least what each row's guidance needs.
        """
        x, x_0, carry = self._step(evaluations, self.parameters, state, place_rows(steps, self._mesh))
        return replace(state, x=x, x_0=x_0, carry=carry)

    def sample(
        self,
        conditions: Conditions,
        guidance: Guidance | Sequence[Guidance],
        keys: Key[Array, " batch"],
        steps_factor: float = 1.0,
    ) -> Iterator[tuple[StepEvent, SamplingState]]:
        """Yield after each step; the last state's `x` is the result. See `start` for the arguments."""
        state, plan = self.start(conditions, guidance, keys, steps_factor)
        for step, count in enumerate(map(int, plan.evaluations)):
            state = self.advance(state, plan.together(step), count)
            yield StepEvent(self.config.size, step + 1, len(plan.evaluations), count), state

    def sample_at_once(
        self, conditions: Conditions, guidance: Guidance | Sequence[Guidance], keys: Key[Array, " batch"]
    ) -> _Images:
        """Return what the last step of `sample` gives, by one compiled loop without the host."""
        state, plan = self.start(conditions, guidance, keys)
        different = tuple(sorted({int(count) for count in plan.evaluations}))
        each = [plan.together(step) for step in range(len(plan.evaluations))]
        steps: RowSteps = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        x: _Images = self._loop(different, self.parameters, state, steps, np.searchsorted(different, plan.evaluations))
        return x

    def redraw(
        self, images: _Images, time: float, conditions: Conditions, guidance: Guidance, keys: Key[Array, " batch"]
    ) -> _Images:
        """Return images in [-1, 1] noised to the first step that begins at `time` or later, and sampled from there.

        They keep their composition and get the errors of this stage's own images.

        Raises:
            ValueError: no step begins at `time` or before.
        """
        state, plan = self.start(conditions, guidance, keys)
        t, log_snr = plan.times[0, :, 0], plan.times[0, :, 1]
        left = np.flatnonzero(t <= time)
        if not len(left):
            raise ValueError(f"time: must be at least {t.min():.3f}, the last step's, got {time}")
        alpha, sigma = schedule.alpha_sigma(jnp.asarray(log_snr[left[0]]))
        x = alpha * images + sigma * state.x
        state = replace(state, x=x, carry=self._sampler.initialize(x))
        for step in left:
            state = self.advance(state, plan.together(int(step)), int(plan.evaluations[step]))
        return state.x

    def _begin(self, rows: Rows) -> SamplingState:
        x = self._noise(rows.keys)
        return SamplingState(x, x, self._sampler.initialize(x), rows)

    @partial(jax.jit, static_argnums=(0, 1))
    def _loop(
        self,
        different: tuple[int, ...],
        parameters: nnx.State[Any, Any],
        state: SamplingState,
        steps: RowSteps,
        which: Int[Array, " steps"],
    ) -> _Images:
        """Take all steps; `which` says for each of them which of the `different` numbers of evaluations it makes."""
        rows = state.rows

        def body(carried: tuple[_Images, Any], at: tuple[RowSteps, Int[Array, ""]]) -> tuple[tuple[_Images, Any], None]:
            x, carry = carried
            row_steps, choice = at

            def advance(count: int) -> tuple[_Images, Any]:
                x_s, _, after = self._advance(count, parameters, SamplingState(x, x, carry, rows), row_steps)
                return x_s, after

            branches = [partial(advance, count) for count in different]
            return jax.lax.switch(choice, branches) if len(branches) > 1 else branches[0](), None

        (x, _), _ = jax.lax.scan(body, (state.x, state.carry), (steps, which))
        return x

    def _advance(
        self, count: int, parameters: nnx.State[Any, Any], state: SamplingState, steps: RowSteps
    ) -> tuple[_Images, _Images, Any]:
        """Return x_s, the predicted x_0 and the sampler's carry."""
        network: Network = nnx.merge(self._graph, unshard(parameters, self._mesh))
        x, rows, step = state.x, state.rows, steps.number
        conditions = rows.conditions
        t, log_snr_t, log_snr_s = (steps.times[:, column] for column in range(3))
        r = jax.vmap(lambda key, step: jax.random.uniform(_key(key, _INTERLEAVE, step)))(rows.keys, step)
        keep = guiding.evaluations(rows.guidance, count, r)
        stacked: Conditions = jax.tree.map(lambda a: jnp.concatenate([a] * count), conditions)
        text = guiding.drop_text(stacked.text, keep.text.reshape(-1), stacked.empty_text)
        neighbors = stacked.neighbors and replace(
            stacked.neighbors, mask=stacked.neighbors.mask & keep.neighbors.reshape(-1, 1)
        )
        stacked_x = jnp.concatenate([x] * count)
        text, neighbors, stacked, stacked_x = constrain_rows((text, neighbors, stacked, stacked_x), self._mesh)
        output = network(stacked_x, jnp.tile(t, count), text, neighbors, stacked.low_resolution).astype(x.dtype)
        if self.config.network.placed:
            output = copied(self.config.prediction, output, neighbors, stacked_x, jnp.tile(log_snr_t, count))
        # The variance, where one is learned, is that of the evaluation that keeps everything.
        output, variance = output[..., :_CHANNELS], output[: x.shape[0], ..., _CHANNELS:]
        epsilons = prediction.to_epsilon(self.config.prediction, output, stacked_x, jnp.tile(log_snr_t, count))
        epsilon = guiding.combine(rows.guidance, steps.guided, epsilons.reshape(count, *x.shape), r)
        x_0 = threshold(prediction.epsilon_to_x0(epsilon, x, log_snr_t), self.config.thresholding)
        if conditions.low_res is not None and self.factor is not None:
            x_0 = low_res_consistent(x_0, conditions.low_res, self.factor, self.config.upsampling)
        x, carry = self._sampler.step(
            state.carry,
            Step(
                x_t=x,
                x_0=x_0,
                epsilon=prediction.x0_to_epsilon(x_0, x, log_snr_t),
                log_snr_t=log_snr_t,
                log_snr_s=log_snr_s,
                noise=_noise(rows.keys, _STEP_NOISE, step, x.shape),
                variance=variance if self.config.network.learned_variance else None,
            ),
        )
        return constrain_rows((x, x_0, carry), self._mesh)

    _step = jax.jit(_advance, static_argnums=(0, 1))

    def _noise(self, keys: Key[Array, " batch"]) -> _Images:
        return _noise(
            keys, _INITIAL, jnp.zeros(len(keys), jnp.int32), (len(keys), self.config.size, self.config.size, _CHANNELS)
        )


def augment(
    stage: StageConfig, low_res: _Images, factor: int, level: Float[Array, " batch"], noise: _Images
) -> LowResolution:
    """Return the low-resolution image upsampled, with noise conditioning augmentation (Imagen, section 2.4).

    Args:
        stage: The stage that upsamples; its configuration says whether noise is added before or after upsampling.
        low_res: The low-resolution image in [-1, 1].
        factor: The stage's size over that of the low-resolution image.
        level: The *time* to which the image is noised.
        noise: Normal noise of the stage's size.
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
    """Return the neighbors' keys and values; a super-resolution network also sees each at low resolution."""
    low_res = None
    if factor is not None:
        flat = images.reshape(-1, *images.shape[2:])
        low_res = upsample(downsample(flat, factor), factor, upsampling).reshape(images.shape)
    return network.encode_neighbors(images, text, mask, low_res)


def _key(key: Key[Array, ""], purpose: int, step: Array | int) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)


def _noise(keys: Key[Array, " batch"], purpose: int, step: Int[Array, " batch"], shape: tuple[int, ...]) -> _Images:
    """Return normal noise, each row's from its own key and step: it does not depend on the rest of the batch."""
    return jax.vmap(lambda key, step: jax.random.normal(_key(key, purpose, step), shape[1:]))(keys, step)
