"""One stage of the cascade: a network with its schedule, prediction type, guidance and sampler.

A batch is a `SamplingState`, whose rows have their own guidance, sampler, neighbors and random key, and a
`SamplingPlan`, which has the schedule of each row. `_advance` takes each row one step of its own further and is the
only sampling code: `sample` calls it step by step, so that the caller can show progress, take a preview or stop;
`sample_at_once` calls it in one compiled loop; `advance_rows` lets rows take a step together that started at different
times.
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
from jaxtyping import Array, Bool, Float, Int, Key

from reimagen_generator.config.cascade import Guidance, StageConfig
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.conditions import Conditions, augment, encode_neighbors
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.diffusion.noise import Purpose, normal, uniform
from reimagen_generator.diffusion.resize import low_res_consistent
from reimagen_generator.diffusion.samplers.row_sampler import RowSampler, sampler_codes, step_noise
from reimagen_generator.diffusion.samplers.sampler import Step
from reimagen_generator.diffusion.sampling_state import Rows, RowSteps, SamplingPlan, SamplingState, concatenate_rows
from reimagen_generator.diffusion.thresholding import threshold
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text, in_compute_type
from reimagen_generator.parallel.sharding import constrain_rows, place_parameters, place_rows, unshard

_Images = Float[Array, "batch height width 3"]
_CHANNELS = 3


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
        self._sampler = RowSampler()
        self._mesh = mesh
        self._graph, parameters = nnx.split(network)
        self.parameters = place_parameters(in_compute_type(parameters, config.network.dtype), mesh)

    @property
    def network(self) -> Network:
        """The stage's network."""
        return nnx.merge(self._graph, self.parameters)

    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
    ) -> Neighbors:
        """Return the neighbors' keys and values, which depend neither on the prompt nor on the seed.

        Args:
            images: The neighbors in [-1, 1], of this stage's size.
            text: The captions, batch × neighbors rows.
            mask: Which neighbors exist.
        """
        neighbors: Neighbors = self._encode_neighbors(self.parameters, *place_rows((images, text, mask), self._mesh))
        return neighbors

    @partial(jax.jit, static_argnums=0)
    def _encode_neighbors(
        self,
        parameters: nnx.State[Any, Any],
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
    ) -> Neighbors:
        network: Network = nnx.merge(self._graph, unshard(parameters, self._mesh))
        neighbors = encode_neighbors(network, images, text, mask, self.factor, self.config.upsampling)
        return constrain_rows(neighbors, self._mesh)

    def conditions(
        self,
        text: Text,
        neighbors: Neighbors | None,
        previous: Float[Array, "batch h w 3"] | None,
        keys: Key[Array, " batch"],
        empty_text: Text | None = None,
    ) -> Conditions:
        """Return what does not change from step to step.

        Args:
            text: The prompts.
            neighbors: The encoded neighbors; None for a network without retrieval.
            previous: The previous stage's images in [-1, 1]; None for the first stage.
            keys: One key for each image.
            empty_text: What stands for no text where guidance drops it, for each image, such as its negative prompt;
                None drops a text by its mask.
        """
        text, neighbors, empty_text = place_rows((text, neighbors, empty_text), self._mesh)
        conditions = Conditions(text, neighbors, None, empty_text)
        if previous is None or self.factor is None:
            return conditions
        previous, keys = place_rows((previous, keys), self._mesh)
        return replace(
            conditions,
            low_resolution=self._augment(previous, keys),
            low_res=previous if self.config.low_res_consistency else None,
        )

    @partial(jax.jit, static_argnums=0)
    def _augment(self, previous: Float[Array, "batch h w 3"], keys: Key[Array, " batch"]) -> LowResolution:
        assert self.factor is not None
        rows = len(keys)
        level = jnp.full(rows, self.config.augmentation)
        noise = normal(keys, Purpose.AUGMENTATION, jnp.zeros(rows, jnp.int32), self.config.size)
        return constrain_rows(augment(self.config, previous, self.factor, level, noise), self._mesh)

    def lower_encode_neighbors(self, images: Any, text: Text, mask: Any) -> jax.stages.Lowered:
        """Return `encode_neighbors`, ready to compile, for shapes of its arguments and of parameters."""
        rows = place_rows((images, text, mask), self._mesh)
        return Stage._encode_neighbors.lower(self, self.parameters, *rows)

    def lower_augment(self, previous: Any, keys: Any) -> jax.stages.Lowered:
        """Return the augmentation of low-resolution images, ready to compile, for shapes of its arguments."""
        return Stage._augment.lower(self, *place_rows((previous, keys), self._mesh))

    def lower_step(self, conditions: Conditions, count: int, keys: Key[Array, " batch"]) -> jax.stages.Lowered:
        """Return a step of `count` evaluations, ready to compile, for shapes of conditions, keys and parameters."""

        def begin(conditions: Conditions, keys: Key[Array, " batch"]) -> tuple[SamplingState, RowSteps]:
            number = jnp.ones(len(keys))
            rows = guiding.GuidanceRows(number.astype(jnp.int32), number, number, number)
            steps = RowSteps(number.astype(jnp.int32), jnp.ones((len(keys), 3)), number.astype(bool))
            return self._begin(Rows(conditions, rows, number.astype(jnp.int32), keys)), steps

        state, steps = place_rows(jax.eval_shape(begin, conditions, keys), self._mesh)
        return Stage._step.lower(self, count, self.parameters, state, steps)

    def begin(self, conditions: Conditions, plan: SamplingPlan, keys: Key[Array, " batch"]) -> SamplingState:
        """Return a batch before its first step.

        Args:
            conditions: What the images are drawn from.
            plan: The steps of the batch.
            keys: One key for each row.
        """
        rows = Rows(conditions, guiding.guidance_rows(plan.strategies), sampler_codes(plan.samplers), keys)
        return self._begin(place_rows(rows, self._mesh))

    def start(
        self,
        conditions: Conditions,
        guidance: Guidance | Sequence[Guidance],
        keys: Key[Array, " batch"],
        config: StageConfig | None = None,
    ) -> tuple[SamplingState, SamplingPlan]:
        """Return a batch before its first step, and all of its steps.

        Args:
            conditions: What the images are drawn from.
            guidance: Of all rows, or of each.
            keys: One for each row.
            config: The stage with other steps or another sampler; None for its own.
        """
        each = [guidance] * len(keys) if isinstance(guidance, Guidance) else list(guidance)
        neighbors = conditions.neighbors
        with_neighbors = np.zeros(len(keys), bool) if neighbors is None else np.asarray(neighbors.mask.any(axis=1))
        plan = SamplingPlan.of(config or self.config, each, with_neighbors)
        return self.begin(conditions, plan, keys), plan

    def advance(self, state: SamplingState, steps: RowSteps, evaluations: int) -> SamplingState:
        """Return the batch after one step of each row.

        Args:
            state: The batch.
            steps: The step that each row takes.
            evaluations: How often to evaluate the network for each row; at least what each row's guidance needs.
        """
        x, x_0, carry = self._step(evaluations, self.parameters, state, place_rows(steps, self._mesh))
        return replace(state, x=x, x_0=x_0, carry=carry)

    def advance_rows(
        self, states: Sequence[SamplingState], steps: Sequence[RowSteps], evaluations: int
    ) -> list[SamplingState]:
        """Return batches of one row each after one step, which they take together as one batch.

        Args:
            states: The batches; repeat one to fill a batch up.
            steps: The step that each takes.
            evaluations: How often to evaluate the network for each row.
        """
        if len(states) == 1:
            return [self.advance(states[0], steps[0], evaluations)]
        placed = place_rows(tuple(steps), self._mesh)
        advanced = self._step_rows(evaluations, self.parameters, tuple(states), placed)
        return [
            replace(state, x=x, x_0=x_0, carry=carry) for state, (x, x_0, carry) in zip(states, advanced, strict=True)
        ]

    def sample(
        self,
        conditions: Conditions,
        guidance: Guidance | Sequence[Guidance],
        keys: Key[Array, " batch"],
        config: StageConfig | None = None,
    ) -> Iterator[tuple[StepEvent, SamplingState]]:
        """Yield after each step; the last state's `x` is the result. See `start` for the arguments."""
        state, plan = self.start(conditions, guidance, keys, config)
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
        x = normal(rows.keys, Purpose.INITIAL, jnp.zeros(len(rows.keys), jnp.int32), self.config.size)
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
        r = uniform(rows.keys, Purpose.INTERLEAVE, step)
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
                noise=step_noise(rows.samplers, rows.keys, step, self.config.size),
                variance=variance if self.config.network.learned_variance else None,
            ),
            rows.samplers,
        )
        return constrain_rows((x, x_0, carry), self._mesh)

    _step = jax.jit(_advance, static_argnums=(0, 1))

    @partial(jax.jit, static_argnums=(0, 1))
    def _step_rows(
        self,
        count: int,
        parameters: nnx.State[Any, Any],
        states: tuple[SamplingState, ...],
        steps: tuple[RowSteps, ...],
    ) -> list[tuple[_Images, _Images, Any]]:
        joined, joined_steps = concatenate_rows(states), concatenate_rows(steps)
        advanced = self._advance(count, parameters, constrain_rows(joined, self._mesh), joined_steps)
        rows = [jax.tree.map(lambda a, row=row: a[row : row + 1], advanced) for row in range(len(states))]
        return constrain_rows(rows, self._mesh)
