"""The states of images on the accelerator, and the operations on them.

The engine decides what is drawn, and when; a device only follows its orders. That is why several hosts can draw
together: each has a device, and a leader sends every order to all of them (see `replication`).
"""

from itertools import count

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from reimagen_generator.diffusion.cascade import Cascade, as_bytes, as_preview, wait_for
from reimagen_generator.diffusion.inputs import Inputs
from reimagen_generator.diffusion.sampling_state import SamplingState
from reimagen_generator.engine.orders import BeginStage, EndStage, Order, Preview, SkipStages, TakeStep


class Device:
    """Executes orders with a cascade. Each returns when its result is computed."""

    def __init__(self, cascade: Cascade) -> None:
        """Create a device without images."""
        self.cascade = cascade
        self._numbers = count()
        self._inputs: dict[int, Inputs] = {}
        self._previous: dict[int, Float[Array, "1 height width 3"]] = {}
        self._states: dict[int, SamplingState] = {}

    def new_number(self) -> int:
        """Return a number for an image. Any thread may call it."""
        return next(self._numbers)

    def forget(self, number: int) -> None:
        """Free what is kept of an image, if anything is. Any thread may call it."""
        for kept in (self._inputs, self._previous, self._states):
            kept.pop(number, None)

    def execute(self, order: Order) -> UInt8[np.ndarray, "..."] | None:
        """Execute an order; return the bytes that it asks for."""
        match order:
            case BeginStage():
                self._begin_stage(order)
            case TakeStep():
                self._take_step(order)
            case Preview():
                return np.asarray(as_preview(self._states[order.number].x_0))
            case EndStage():
                return self._end_stage(order)
            case SkipStages():
                self._skip_stages(order)
        return None

    def _begin_stage(self, order: BeginStage) -> None:
        cascade, number = self.cascade, order.number
        if order.row is not None:
            self._inputs[number] = cascade.inputs.encode([order.row], order.slots)
        conditions, keys = cascade.conditions(order.stage, self._inputs[number], self._previous.get(number))
        stage = cascade.stage(order.stage)
        state = stage.begin(conditions, order.guidance, jnp.asarray(order.samplers), keys)
        wait_for(state)
        self._states[number] = state

    def _take_step(self, order: TakeStep) -> None:
        states = [self._states[number] for number in order.numbers]
        advanced = self.cascade.stage(order.stage).advance_rows(states, order.steps, order.evaluations)
        wait_for([state.x for state in advanced])
        self._states.update(zip(order.numbers, advanced, strict=True))

    def _end_stage(self, order: EndStage) -> UInt8[np.ndarray, "1 size size 3"] | None:
        drawn, previous = as_bytes(self._states.pop(order.number).x)
        if not order.last:
            self._previous[order.number] = previous
            return None
        image = np.asarray(drawn)
        self.forget(order.number)
        return image

    def _skip_stages(self, order: SkipStages) -> None:
        side = self.cascade.sizes[order.stage - 1]
        _, previous = as_bytes(jnp.zeros((1, side, side, 3)))
        inputs = self.cascade.inputs.encode([order.row], order.slots)
        wait_for((previous, inputs.text, inputs.placing))
        self._previous[order.number], self._inputs[order.number] = previous, inputs
