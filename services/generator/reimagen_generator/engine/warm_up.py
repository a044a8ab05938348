"""Compile the steps of a cascade, and measure which batch sizes are worth using."""

import logging
import time
from collections.abc import Sequence
from typing import Final

import jax.numpy as jnp
import numpy as np

from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion.cascade import Cascade, as_bytes, as_preview, wait_for
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps, SamplingState
from reimagen_generator.engine.step_times import StepKind, StepTimes

# A larger batch is used only if a row takes at most this share of its time in a smaller one.
_WORTHWHILE: Final = 0.9
# Of each step, the fastest of so many runs counts; of slow steps fewer, as soon as they took so many seconds.
_RUNS: Final = 5
_RUN_SECONDS: Final = 0.5
# Requests with up to the second number of slots are usual: prompts often name two things.
_USUAL_SLOTS: Final = 2

_logger = logging.getLogger(__name__)


def warm_up(cascade: Cascade, largest_batch: int, times: StepTimes) -> None:
    """Compile the steps of usual requests, and add the measured times.

    For each stage, batch sizes are doubled as long as this makes a row of the stage's usual step faster. No stage uses
    larger batches than the stage before, whose images are smaller. The other usual steps of the stage are compiled for
    the same sizes.

    Args:
        cascade: The cascade.
        largest_batch: Maximum number of images in a batch.
        times: Where the measured times are added.
    """
    sizes = [size for size in (2**power for power in range(largest_batch.bit_length())) if size <= largest_batch]
    for index, config in enumerate(cascade.config.stages):
        started = time.monotonic()
        usual = guiding.resolve(config.guidance, neighbors=config.network.retrieval).evaluations
        counts = [usual] if config.guidance.interval is None else [usual, guiding.Unguided.evaluations]
        slots = cascade.slot_counts[:_USUAL_SLOTS] if config.network.retrieval else (0,)
        first, *others = (StepKind(index, number, count) for number in slots for count in counts)
        sizes = _worthwhile(cascade, first, sizes, times)
        for kind in others:
            times.add(kind, compile_steps(cascade, kind, sizes))
        seconds = round(time.monotonic() - started, 1)
        _logger.info("a stage is compiled", extra={"size": config.size, "batch_sizes": sizes, "seconds": seconds})


def compile_steps(cascade: Cascade, kind: StepKind, sizes: Sequence[int]) -> dict[int, float]:
    """Compile a kind of step for several batch sizes, and return the measured seconds of each."""
    state, steps = _row(cascade, kind)
    return {size: _seconds(cascade, kind, state, steps, size) for size in sizes}


def _worthwhile(cascade: Cascade, kind: StepKind, sizes: Sequence[int], times: StepTimes) -> list[int]:
    """Compile a kind of step for doubled batch sizes, as long as each makes a row clearly faster; return the sizes."""
    state, steps = _row(cascade, kind)
    seconds: dict[int, float] = {}
    for size in sizes:
        taken = _seconds(cascade, kind, state, steps, size)
        if any(taken / size > _WORTHWHILE * seconds[smaller] / smaller for smaller in seconds):
            break
        seconds[size] = taken
    times.add(kind, seconds)
    return list(seconds)


def _row(cascade: Cascade, kind: StepKind) -> tuple[SamplingState, RowSteps]:
    """Return an image before its first step of a stage; all that leads to it is compiled."""
    stage = cascade.stage(kind.stage)
    pair = ReferencePair(np.zeros((8, 8, 3), np.uint8), "")
    previous = None
    if kind.stage:
        side = cascade.sizes[kind.stage - 1]
        _, previous = as_bytes(jnp.zeros((1, side, side, 3)))
    slots = max(1, kind.slots)
    inputs = cascade.inputs.encode([Row("", [pair] * min(slots, cascade.config.maximum_k), 0)], slots)
    conditions, keys = cascade.conditions(kind.stage, inputs, previous)
    plan = stage.plan([stage.config.guidance], [kind.slots > 0])
    state = stage.begin(conditions, plan, keys)
    wait_for((as_bytes(state.x), as_preview(state.x_0)))
    return state, plan.together(0)


def _seconds(cascade: Cascade, kind: StepKind, state: SamplingState, steps: RowSteps, size: int) -> float:
    """Return the least seconds of a few runs of a step, after one that compiles it."""
    seconds: list[float] = []
    for run in range(1 + _RUNS):
        started = time.monotonic()
        advanced = cascade.stage(kind.stage).advance_rows([state] * size, [steps] * size, kind.evaluations)
        wait_for([row.x for row in advanced])
        if run:
            seconds.append(time.monotonic() - started)
        if sum(seconds) > _RUN_SECONDS:
            break
    return min(seconds)
