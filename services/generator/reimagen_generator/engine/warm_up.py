"""Compile the steps of a cascade, and measure which batch sizes are worth using."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import jax.numpy as jnp
import numpy as np

from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion.cascade import Cascade, as_bytes, as_preview, wait_for
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps, SamplingPlan, SamplingState
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
            measured, start = compile_steps(cascade, kind, sizes)
            times.add(kind, measured)
            times.started(kind, start)
        seconds = round(time.monotonic() - started, 1)
        _logger.info("a stage is compiled", extra={"size": config.size, "batch_sizes": sizes, "seconds": seconds})


def compile_steps(cascade: Cascade, kind: StepKind, sizes: Sequence[int]) -> tuple[dict[int, float], float]:
    """Compile a kind of step for several batch sizes; return the measured seconds of each, and of the stage's start."""
    state, steps, start = _begin(cascade, kind)
    return {size: _seconds(cascade, kind, state, steps, size) for size in sizes}, start


def _worthwhile(cascade: Cascade, kind: StepKind, sizes: Sequence[int], times: StepTimes) -> list[int]:
    """Compile a kind of step for doubled batch sizes, as long as each makes a row clearly faster; return the sizes."""
    state, steps, start = _begin(cascade, kind)
    seconds: dict[int, float] = {}
    for size in sizes:
        taken = _seconds(cascade, kind, state, steps, size)
        if not worthwhile(size, taken, seconds):
            break
        seconds[size] = taken
    times.add(kind, seconds)
    times.started(kind, start)
    return list(seconds)


def worthwhile(size: int, taken: float, seconds: Mapping[int, float]) -> bool:
    """Return whether a batch size makes a row clearly faster than smaller ones, whose seconds are known."""
    return all(taken / size <= _WORTHWHILE * seconds[smaller] / smaller for smaller in seconds)


def _begin(cascade: Cascade, kind: StepKind) -> tuple[SamplingState, RowSteps, float]:
    """Return an image before its first step of a stage, and the seconds that this took when all was compiled."""
    begun, seconds = None, []
    for number in range(2):
        # Texts and neighbors that were encoded before would be found in the caches.
        pair = ReferencePair(np.full((256, 256, 3), number, np.uint8), f"{kind} {number}")
        row = Row(f"prompt of {kind} {number}", [pair] * min(max(1, kind.slots), cascade.config.maximum_k), 0)
        previous, inputs = None, None
        if kind.stage:
            side = cascade.sizes[kind.stage - 1]
            _, previous = as_bytes(jnp.zeros((1, side, side, 3)))
            inputs = cascade.inputs.encode([row], max(1, kind.slots))
            wait_for((previous, inputs.text, inputs.placing))
        started = time.monotonic()
        inputs = inputs or cascade.inputs.encode([row], max(1, kind.slots))
        conditions, keys = cascade.conditions(kind.stage, inputs, previous)
        stage = cascade.stage(kind.stage)
        plan = SamplingPlan.of(stage.config, [stage.config.guidance], [kind.slots > 0])
        begun = stage.begin(conditions, plan, keys), plan.together(0)
        wait_for(begun)
        seconds.append(time.monotonic() - started)
        wait_for((as_bytes(begun[0].x), as_preview(begun[0].x_0)))
    assert begun is not None
    return *begun, min(seconds)


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
