"""One stage of the cascade: a network with its schedule, prediction type, guidance and sampler.

A batch is a `SamplingState`, whose rows have their own guidance, sampler, neighbors and random key, and a
`SamplingPlan`, which has the schedule of each row. `sample` takes step by step, so that the caller can show progress,
take a preview or stop; `sample_at_once` takes all in one compiled loop; `advance_rows` lets rows take a step together
that started at different times. The compiled functions are in `stage_program`.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from reimagen_generator.config.cascade import Guidance, StageConfig
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import schedule
from reimagen_generator.diffusion.conditions import Conditions
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.diffusion.samplers.row_sampler import sampler_codes
from reimagen_generator.diffusion.sampling_state import Rows, RowSteps, SamplingPlan, SamplingState
from reimagen_generator.diffusion.stage_program import StageProgram, stage_program
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import Network, Text, in_compute_type
from reimagen_generator.parallel.sharding import place_parameters, place_rows

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
        self._mesh = mesh
        self._graph, parameters = nnx.split(network)
        self._program = stage_program(config, self._graph, factor, mesh)
        self.parameters = place_parameters(in_compute_type(parameters, config.network.dtype), mesh)

    def with_config(self, config: StageConfig) -> "Stage":
        """Return this stage with another configuration of the same network; both share their parameters."""
        stage = copy(self)
        stage.config = config
        stage._program = stage_program(config, self._graph, self.factor, self._mesh)
        return stage

    @property
    def network(self) -> Network:
        """The stage's network."""
        return self._program.network(self.parameters)

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
        neighbors: Neighbors = self._program.encode_neighbors(
            self.parameters, *place_rows((images, text, mask), self._mesh)
        )
        return neighbors

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
            low_resolution=self._program.augment(previous, keys),
            low_res=previous if self.config.low_res_consistency else None,
        )

    def lower_encode_neighbors(self, images: Any, text: Text, mask: Any) -> jax.stages.Lowered:
        """Return `encode_neighbors`, ready to compile, for shapes of its arguments and of parameters."""
        rows = place_rows((images, text, mask), self._mesh)
        return StageProgram.encode_neighbors.lower(self._program, self.parameters, *rows)

    def lower_augment(self, previous: Any, keys: Any) -> jax.stages.Lowered:
        """Return the augmentation of low-resolution images, ready to compile, for shapes of its arguments."""
        return StageProgram.augment.lower(self._program, *place_rows((previous, keys), self._mesh))

    def lower_step(self, conditions: Conditions, count: int, keys: Key[Array, " batch"]) -> jax.stages.Lowered:
        """Return a step of `count` evaluations, ready to compile, for shapes of conditions, keys and parameters."""

        def begin(conditions: Conditions, keys: Key[Array, " batch"]) -> tuple[SamplingState, RowSteps]:
            number = jnp.ones(len(keys))
            rows = guiding.GuidanceRows(number.astype(jnp.int32), number, number, number)
            steps = RowSteps(number.astype(jnp.int32), jnp.ones((len(keys), 3)), number.astype(bool))
            return self._program.begin(Rows(conditions, rows, number.astype(jnp.int32), keys)), steps

        state, steps = place_rows(jax.eval_shape(begin, conditions, keys), self._mesh)
        return StageProgram.step.lower(self._program, count, self.parameters, state, steps)

    def begin(
        self,
        conditions: Conditions,
        guidance: guiding.GuidanceRows,
        samplers: Int[Array, " batch"],
        keys: Key[Array, " batch"],
    ) -> SamplingState:
        """Return a batch before its first step.

        Args:
            conditions: What the images are drawn from.
            guidance: The guidance of each row.
            samplers: The sampler of each row, see `sampler_codes`.
            keys: One key for each row.
        """
        return self._program.begin(place_rows(Rows(conditions, guidance, samplers, keys), self._mesh))

    def start(
        self,
        conditions: Conditions,
        guidance: Guidance | Sequence[Guidance],
        keys: Key[Array, " batch"],
    ) -> tuple[SamplingState, SamplingPlan]:
        """Return a batch before its first step, and all of its steps.

        Args:
            conditions: What the images are drawn from.
            guidance: Of all rows, or of each.
            keys: One for each row.
        """
        each = [guidance] * len(keys) if isinstance(guidance, Guidance) else list(guidance)
        neighbors = conditions.neighbors
        with_neighbors = np.zeros(len(keys), bool) if neighbors is None else np.asarray(neighbors.mask.any(axis=1))
        plan = SamplingPlan.of(self.config, each, with_neighbors)
        rows = guiding.guidance_rows(plan.strategies), sampler_codes(plan.samplers)
        return self.begin(conditions, *rows, keys), plan

    def advance(self, state: SamplingState, steps: RowSteps, evaluations: int) -> SamplingState:
        """Return the batch after one step of each row.

        Args:
            state: The batch.
            steps: The step that each row takes.
            evaluations: How often to evaluate the network for each row; at least what each row's guidance needs.
        """
        x, x_0, carry = self._program.step(evaluations, self.parameters, state, place_rows(steps, self._mesh))
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
        advanced = self._program.step_rows(evaluations, self.parameters, tuple(states), placed)
        return [
            replace(state, x=x, x_0=x_0, carry=carry) for state, (x, x_0, carry) in zip(states, advanced, strict=True)
        ]

    def sample(
        self,
        conditions: Conditions,
        guidance: Guidance | Sequence[Guidance],
        keys: Key[Array, " batch"],
    ) -> Iterator[tuple[StepEvent, SamplingState]]:
        """Yield after each step; the last state's `x` is the result. See `start` for the arguments."""
        state, plan = self.start(conditions, guidance, keys)
        for step, count in enumerate(map(int, plan.evaluations)):
            state = self.advance(state, plan.together(step), count)
            yield StepEvent(self.config.size, step + 1, len(plan.evaluations), count), state

    def sample_at_once(
        self, conditions: Conditions, guidance: Guidance | Sequence[Guidance], keys: Key[Array, " batch"]
    ) -> _Images:
        """Return what the last step of `sample` gives, by one compiled loop without the host."""
        state, plan = self.start(conditions, guidance, keys)
        different = tuple(sorted({int(count) for count in plan.evaluations}))
        x: _Images = self._program.loop(
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
        state = replace(state, x=x, carry=self._program.sampler.initialize(x))
        for step in left:
            state = self.advance(state, plan.together(int(step)), int(plan.evaluations[step]))
        return state.x
