"""A batch in the middle of sampling, and the steps that its rows take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from reimagen_generator.config.cascade import Guidance, SamplerKind, StageConfig
from reimagen_generator.diffusion.conditions import Conditions
from reimagen_generator.diffusion.guidance import (
    GuidanceRows,
    RowGuidance,
    evaluations_of_steps,
    guided_steps,
    resolve,
)
from reimagen_generator.diffusion.schedule import sampling_schedule

_Images = Float[Array, "batch height width 3"]
_Tree = TypeVar("_Tree")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """What stays the same of a batch's rows while they are sampled."""

    conditions: Conditions
    guidance: GuidanceRows
    samplers: Int[Array, " batch"]
    """The sampler of each row (see `sampler_codes`)."""
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
    """The step that each row of a batch takes next, or with an axis before the rows, all steps.

    Rows may be at different steps of different schedules.
    """

    number: Int[Array, "*steps batch"]
    """From 0; the step's noise depends on it."""
    times: Float[Array, "*steps batch 3"]
    """t, λ_t and λ_s."""
    guided: Bool[Array, "*steps batch"]


@dataclass(frozen=True)
class SamplingPlan:
    """All steps of a batch, on the host: schedules of any length use the same compiled step."""

    strategies: tuple[RowGuidance, ...]
    """The guidance of each row."""
    samplers: tuple[SamplerKind, ...]
    """The sampler of each row."""
    times: Float[np.ndarray, "batch steps 3"]
    """t, λ_t and λ_s."""
    guided: Bool[np.ndarray, "batch steps"]

    @classmethod
    def of(
        cls,
        config: StageConfig,
        guidance: Sequence[Guidance],
        with_neighbors: Sequence[bool] | Bool[np.ndarray, " batch"],
    ) -> Self:
        """Return all steps of a batch in a stage.

        Args:
            config: The stage.
            guidance: The guidance of each row.
            with_neighbors: Whether each row has neighbors.
        """
        plan = sampling_schedule(config)
        times = np.stack([plan.time, plan.log_snr[:-1], plan.log_snr[1:]], axis=1)
        strategies = tuple(
            resolve(one, neighbors=bool(any_)) for one, any_ in zip(guidance, with_neighbors, strict=True)
        )
        guided = np.stack([guided_steps(one, plan.log_snr[:-1]) for one in guidance])
        rows = len(strategies)
        return cls(strategies, (config.sampler,) * rows, np.tile(times, (rows, 1, 1)), guided)

    @cached_property
    def evaluations(self) -> Int[np.ndarray, " steps"]:
        """How often each step evaluates the network for each row, if all rows take it together."""
        return evaluations_of_steps(self.strategies, self.guided)

    def at(self, step: Int[np.ndarray, " batch"]) -> RowSteps:
        """Return what each row's given step takes."""
        rows = np.arange(len(step))
        return _row_steps(step.astype(np.int32), self.times[rows, step], self.guided[rows, step])

    def together(self, step: int) -> RowSteps:
        """Return one step for all rows."""
        return self.at(np.full(len(self.times), step))

    def all_steps(self) -> RowSteps:
        """Return all steps, for all rows together, with an axis of steps before the others."""
        batch, steps = self.guided.shape
        number = np.tile(np.arange(steps, dtype=np.int32)[:, None], batch)
        return _row_steps(number, self.times.swapaxes(0, 1), self.guided.T)


def _row_steps(number: Any, times: Any, guided: Any) -> RowSteps:
    """Return steps of arrays of the host: compiled code takes them as they are, which saves a transfer for each."""
    return RowSteps(number, times, guided)


def concatenate_rows(trees: Sequence[_Tree]) -> _Tree:
    """Return trees of arrays as one, joined along their first axis."""
    if len(trees) == 1:
        return trees[0]
    joined: _Tree = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
    return joined
