"""One image on its way through the stages."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import UInt8

from reimagen_common.tracing import OpenSpan
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.diffusion.guidance import guidance_rows
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.samplers.row_sampler import sampler_codes
from reimagen_generator.diffusion.sampling_state import RowSteps, SamplingPlan
from reimagen_generator.engine.device import Device
from reimagen_generator.engine.orders import BeginStage, EndStage, Preview
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.route import Route
from reimagen_generator.engine.step_times import StepKind
from reimagen_generator.engine.work import GenerationTask, Priority, Work

STRETCH: Final = 10.0
"""A request is due when so many times its remaining work has passed since its arrival."""


@dataclass(eq=False)
class Request:
    """An admitted request, with its images once its neighbors are known."""

    handle: RequestHandle
    work: Work
    remaining: float
    """Estimated seconds of the work that is left, among other requests."""
    alone: float
    """Estimated seconds of its images without other requests, when it was admitted."""
    slowdown: float
    """Estimated seconds of an image in batches as full as lately, over the estimated seconds of the request's work."""
    arrived: float = field(default_factory=time.monotonic)
    """When it was admitted, by the monotonic clock."""
    ahead: int = 0
    """Number of requests that were admitted before it and had not ended."""
    seconds_left: Sequence[float] = ()
    """Estimated seconds of an image, by the number of its steps that are left."""
    queued: bool = False
    """Whether its images were queued."""
    rows: list["ImageRow"] = field(default_factory=list)
    """The images that are not finished."""
    started: float | None = None
    """When its first step began, by the monotonic clock."""

    @property
    def caller(self) -> str:
        """Id of the caller's API key; empty if there is none."""
        return self.work.caller

    @property
    def flow(self) -> tuple[Priority, str]:
        """The flow of the fair queue to which its images belong."""
        return (self.work.priority, self.work.caller)

    @property
    def due(self) -> float:
        """When its images should be finished. The earliest of a flow is served first.

        A request that is short, or nearly finished, is due soon: shortest remaining time first. A request that waits is
        overtaken only by requests that arrive before its due time.
        """
        return self.arrived + STRETCH * self.remaining

    def measure(self) -> None:
        """Update the work that is left, after a step or the end of an image."""
        self.remaining = sum(self.seconds_left[row.left] for row in self.rows)


class ImageRow:
    """One image: its stage, its next step and its state on the device."""

    def __init__(self, device: Device, request: Request, task: GenerationTask, index: int, route: Route) -> None:
        """Prepare an image; nothing is computed before `begin`.

        Args:
            device: The device that draws it.
            request: The request.
            task: What to draw for it.
            index: Index of the image in the request.
            route: The steps of the image.
        """
        self.request = request
        self.index = index
        self._device = device
        self.number = device.new_number()
        """The number of its state on the device."""
        self._row = Row(task.prompt, task.neighbors, task.seeds[index], task.negative_prompt)
        self._route = route
        self._stage = self._step = 0
        self.begun = False
        """Whether the image has a state on the device."""
        self.starts_stage = True
        """Whether its next step is the first of a stage."""
        self._began = 0.0
        self.left = route.steps
        """Number of steps that are not taken yet."""
        self.span = OpenSpan()
        """The span of the stage in the traces."""
        previews = task.previews if index == 0 else 0
        self._left_at_previews = {
            route.steps - max(1, route.steps * (number + 1) // (previews + 1)) for number in range(previews)
        }

    @property
    def kind(self) -> StepKind:
        """The kind of the next step."""
        return self._route.stages[self._stage][self._step]

    @property
    def steps(self) -> RowSteps:
        """The next step."""
        return self._route.stages[self._stage].plan.together(self._step)

    def begin_stage(self) -> None:
        """Compute what the next stage draws from."""
        self._began = time.monotonic()
        row = None if self.begun else self._row
        plan = self._route.stages[self._stage].plan
        self._device.execute(begin_stage(self.number, self._stage, self._route.slots, row, plan))
        self.begun, self.starts_stage = True, False

    def advance(self) -> "Advanced":
        """Accept a step that the device has taken."""
        steps = self._route.stages[self._stage]
        self._step += 1
        self.left -= 1
        event = StepEvent(
            self._device.cascade.sizes[self._stage],
            self._step,
            len(steps),
            steps[self._step - 1].evaluations,
            stage=self._stage,
            index=self.index,
            preview=self._device.execute(Preview(self.number)) if self.left in self._left_at_previews else None,
        )
        if self._step < len(steps):
            return Advanced(event)
        image = self._device.execute(EndStage(self.number, last=self.left == 0))
        self.starts_stage = True
        self._step = 0
        self._stage += 1
        return Advanced(event, image, time.monotonic() - self._began)

    def forget(self) -> None:
        """Free its state on the device."""
        self._device.forget(self.number)


def begin_stage(number: int, stage: int, slots: int, row: Row | None, plan: SamplingPlan) -> BeginStage:
    """Return the order that begins a stage of an image with a plan."""
    return BeginStage(number, stage, slots, row, guidance_rows(plan.strategies), sampler_codes(plan.samplers))


@dataclass(frozen=True)
class Advanced:
    """What a step has brought."""

    event: StepEvent
    image: UInt8[np.ndarray, "1 size size 3"] | None = None
    """The finished image, after its last step."""
    stage_seconds: float | None = None
    """Seconds since the stage began, after its last step."""
