"""One stage of the cascade: a network with its schedule, prediction type, guidance and sampler.

A batch is a `SamplingState`, whose rows have their own guidance, neighbors and random key, and a `SamplingPlan`, which
has the schedule of each row. `_advance` takes each row one step of its own further and is the only sampling code:
`sample` calls it step by step, so that the caller can show progress, take a preview or stop; `sample_at_once` calls it
in one compiled loop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from reimagen_generator.config.cascade import Guidance, StageConfig
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.conditions import Conditions, augment, encode_neighbors
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.diffusion.resize import low_res_consistent
from reimagen_generator.diffusion.samplers.registry import build_sampler
from reimagen_generator.diffusion.samplers.sampler import Step
from reimagen_generator.diffusion.sampling_state import Rows, RowSteps, SamplingPlan, SamplingState
from reimagen_generator.diffusion.thresholding import threshold
from reimagen_generator.networks.network import Network, Text, in_compute_type
from reimagen_generator.networks.placement import PlacedReferences
from reimagen_generator.parallel.sharding import constrain_rows, place_parameters, place_rows, unshard

_Images = Float[Array, "batch height width 3"]
_CHANNELS = 3

# Each use of randomness has a key of its own, so that adding one never changes another.
_INITIAL, _AUGMENTATION, _STEP_NOISE, _INTERLEAVE = range(4)


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
        previous: Float[Array, "batch h w 3"] | None,
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
        previous: Float[Array, "batch h w 3"] | None,
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
        x: _Images = self._loop(
            different, self.parameters, state, plan.all_steps(), np.searchsorted(different, plan.evaluations)
        )
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


def _key(key: Key[Array, ""], purpose: int, step: Array | int) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)


def _noise(keys: Key[Array, " batch"], purpose: int, step: Int[Array, " batch"], shape: tuple[int, ...]) -> _Images:
    """Return normal noise, each row's from its own key and step: it does not depend on the rest of the batch."""
    return jax.vmap(lambda key, step: jax.random.normal(_key(key, purpose, step), shape[1:]))(keys, step)
