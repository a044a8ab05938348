"""The steps of an image through the stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.sampling_state import SamplingPlan
from reimagen_generator.engine.step_times import StepKind
from reimagen_generator.engine.work import Work


@dataclass(frozen=True)
class StageRoute:
    """The steps of an image in one stage. A stage may have thousands of steps, but few kinds of them."""

    plan: SamplingPlan
    """What each step does."""
    kinds: Sequence[StepKind]
    """The different kinds of its steps."""
    kind_of_step: Int[np.ndarray, " steps"]
    """The index of each step's kind."""

    @classmethod
    def of(cls, plan: SamplingPlan, stage: int, slots: int) -> Self:
        """Return the route of a plan.

        Args:
            plan: The steps.
            stage: Index of the stage.
            slots: Number of neighbors for which the stage has space.
        """
        counts, kind_of_step = np.unique(plan.evaluations, return_inverse=True)
        return cls(plan, [StepKind(stage, slots, int(count)) for count in counts], kind_of_step)

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.kind_of_step)

    def __getitem__(self, step: int) -> StepKind:
        """Return the kind of a step."""
        return self.kinds[int(self.kind_of_step[step])]

    def seconds(self, estimate: Callable[[StepKind], float]) -> Float[np.ndarray, " steps"]:
        """Return the estimated seconds of each step."""
        seconds: Float[np.ndarray, " steps"] = np.asarray([estimate(kind) for kind in self.kinds])[self.kind_of_step]
        return seconds


@dataclass(frozen=True)
class Route:
    """The steps of an image through the stages, the same for all images of a request."""

    slots: int
    """Number of neighbors for which the image has space."""
    stages: Sequence[StageRoute]
    """The steps of each stage."""

    @classmethod
    def of(cls, cascade: Cascade, work: Work, neighbors: int) -> Self:
        """Return the route of an image with that many neighbors."""
        slots = cascade.slots_for(neighbors)
        stages = []
        for index, guidance in enumerate(work.guidance):
            config = cascade.config.stages[index].with_steps(work.steps_factor)
            retrieval = config.network.retrieval
            if work.steps:
                config = work.steps[index].applied_to(config)
            plan = SamplingPlan.of(config, [guidance], [retrieval and neighbors > 0])
            stages.append(StageRoute.of(plan, index, slots if retrieval else 0))
        return cls(slots, stages)

    @property
    def steps(self) -> int:
        """Number of steps of all stages."""
        return sum(map(len, self.stages))
