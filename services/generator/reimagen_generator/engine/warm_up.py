"""Compile the steps of a cascade, and measure which batch sizes are worth using."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps, SamplingPlan
from reimagen_generator.engine.device import Device
from reimagen_generator.engine.image_row import begin_stage
from reimagen_generator.engine.orders import EndStage, Preview, SkipStages, TakeStep
from reimagen_generator.engine.step_times import StepKind, StepTimes

# A larger batch is used only if a row takes at most this share of its time in a smaller one.
_WORTHWHILE: Final = 0.9
# Of each step, the fastest of so many runs counts; of slow steps fewer, as soon as they took so many seconds.
_RUNS: Final = 5
_RUN_SECONDS: Final = 0.5
# Requests with up to the second number of slots are usual: prompts often name two things.
_USUAL_SLOTS: Final = 2

_logger = logging.getLogger(__name__)


def warm_up(device: Device, largest_batch: int, times: StepTimes) -> None:
    """Compile the steps of usual requests, and add the measured times.

    For each stage, batch sizes are doubled as long as this makes a row of the stage's usual step faster. No stage uses
    larger batches than the stage before, whose images are smaller. The other usual steps of the stage are compiled for
    the same sizes.

    Args:
        device: The device, with its cascade.
        largest_batch: Maximum number of images in a batch.
        times: Where the measured times are added.
    """
    cascade = device.cascade
    sizes = [size for size in (2**power for power in range(largest_batch.bit_length())) if size <= largest_batch]
    for index, config in enumerate(cascade.config.stages):
        started = time.monotonic()
        usual = guiding.resolve(config.guidance, neighbors=config.network.retrieval).evaluations
        counts = [usual] if config.guidance.interval is None else [usual, guiding.Unguided.evaluations]
        slots = cascade.slot_counts[:_USUAL_SLOTS] if config.network.retrieval else (0,)
        first, *others = (StepKind(index, number, count) for number in slots for count in counts)
        sizes = _worthwhile(device, first, sizes, times)
        for kind in others:
            measured, start = compile_steps(device, kind, sizes)
            times.add(kind, measured)
            times.started(kind, start)
        seconds = round(time.monotonic() - started, 1)
        _logger.info("a stage is compiled", extra={"size": config.size, "batch_sizes": sizes, "seconds": seconds})


def compile_steps(device: Device, kind: StepKind, sizes: Sequence[int]) -> tuple[dict[int, float], float]:
    """Compile a kind of step for several batch sizes; return the measured seconds of each, and of the stage's start."""
    number, steps, start = _begin(device, kind)
    try:
        return {size: _seconds(device, kind, number, steps, size) for size in sizes}, start
    finally:
        device.forget(number)


def _worthwhile(device: Device, kind: StepKind, sizes: Sequence[int], times: StepTimes) -> list[int]:
    """Compile a kind of step for doubled batch sizes, as long as each makes a row clearly faster; return the sizes."""
    number, steps, start = _begin(device, kind)
    seconds: dict[int, float] = {}
    for size in sizes:
        taken = _seconds(device, kind, number, steps, size)
        if not worthwhile(size, taken, seconds):
            break
        seconds[size] = taken
    device.forget(number)
    times.add(kind, seconds)
    times.started(kind, start)
    return list(seconds)


def worthwhile(size: int, taken: float, seconds: Mapping[int, float]) -> bool:
    """Return whether a batch size makes a row clearly faster than smaller ones, whose seconds are known."""
    return all(taken / size <= _WORTHWHILE * seconds[smaller] / smaller for smaller in seconds)


def _begin(device: Device, kind: StepKind) -> tuple[int, RowSteps, float]:
    """Return the number of an image before its first step of a stage, that step, and the seconds of the stage's start.

    The seconds are those of a start for which all was compiled.
    """
    cascade, stage, slots = device.cascade, device.cascade.config.stages[kind.stage], max(1, kind.slots)
    plan = SamplingPlan.of(stage, [stage.guidance], [kind.slots > 0])
    number, seconds = device.new_number(), []
    for variant in range(2):
        device.forget(number)
        # Texts and neighbors that were encoded before would be found in the caches.
        pair = ReferencePair(np.full((256, 256, 3), variant, np.uint8), f"{kind} {variant}")
        row = Row(f"prompt of {kind} {variant}", [pair] * min(slots, cascade.config.maximum_k), 0)
        if kind.stage:
            device.execute(SkipStages(number, kind.stage, slots, row))
        started = time.monotonic()
        device.execute(begin_stage(number, kind.stage, slots, None if kind.stage else row, plan))
        seconds.append(time.monotonic() - started)
        if variant == 0:
            device.execute(Preview(number))
            device.execute(EndStage(number, last=True))
    return number, plan.together(0), min(seconds)


def _seconds(device: Device, kind: StepKind, number: int, steps: RowSteps, size: int) -> float:
    """Return the least seconds of a few runs of a step, after one that compiles it."""
    seconds: list[float] = []
    order = TakeStep(kind.stage, [number] * size, [steps] * size, kind.evaluations)
    for run in range(1 + _RUNS):
        started = time.monotonic()
        device.execute(order)
        if run:
            seconds.append(time.monotonic() - started)
        if sum(seconds) > _RUN_SECONDS:
            break
    return min(seconds)
