"""Policies on simulated machines: the engine's admission and scheduler under a virtual clock.

    python -m benchmarks.serving.simulate [--requests 1000] [--callers 4] [--machine tpu|cpu]

`tpu`: the seconds of starts and steps are the minimum for one chip of a TPU v4, from `reimagen-generator plan demo
--topology v4:2x2x1 --batch N` with N of 4 to 64: gigabytes that a step moves, over 1,228 GB/s, because memory bounds
every step. Batch sizes are used as the engine would use them. A real chip takes longer. Requests carry deadlines.

`cpu`: the seconds of each stage are those of two CPU cores in docs/notes/benchmarks.md. Their division into start and
steps is assumed. Requests carry no deadlines, and count as in time like those with deadlines.

Not included are the host's part of a turn and the retrieval.
"""

import itertools
import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final

import typer

from benchmarks.serving.load import (
    CALLERS,
    HEADER,
    LOADS,
    Arrival,
    Outcome,
    Routes,
    Run,
    arrivals,
    bars,
    capacity,
    routes,
)
from benchmarks.serving.policies import ENGINE, ONE_AT_A_TIME, POLICIES, Policy
from reimagen_common.errors import ReimagenError
from reimagen_generator.config.presets import DEMO
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.backlog import new_request, seconds_left
from reimagen_generator.engine.image_row import Request
from reimagen_generator.engine.refusals import engine_slots
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.route import Route
from reimagen_generator.engine.scheduler import Scheduler
from reimagen_generator.engine.step_times import StepKind, StepTimes
from reimagen_generator.engine.warm_up import worthwhile

_LARGEST_BATCH: Final = 16
_GB_PER_SECOND: Final = 1228.0
_STEP_GB: Final[tuple[dict[int, float], ...]] = (
    {1: 0.70, 2: 1.16, 4: 0.97, 8: 1.69, 16: 2.99},
    {1: 0.30, 2: 0.75, 4: 1.46, 8: 1.12, 16: 1.76},
    {1: 3.39, 2: 11.32, 8: 16.16, 16: 24.45},
)
"""Gigabytes that a step moves, of each stage and batch size."""
_START_GB: Final = (0.08 + 0.09, 0.005, 0.02)
"""Gigabytes that the start of a stage moves: the neighbors' maps and the weights of the text encoder; the noised
low-resolution image."""
_CPU_STEP_SECONDS: Final = (0.021, 0.050, 0.68)
_CPU_START_SECONDS: Final = (0.04, 0.01, 0.07)


class Machine(Enum):
    """What is simulated."""

    TPU = "tpu"
    CPU = "cpu"

    @property
    def slots(self) -> int:
        """Maximum number of requests in the engine."""
        return 64 if self is Machine.TPU else 16

    @property
    def deadlines(self) -> bool:
        """Whether requests carry deadlines."""
        return self is Machine.TPU

    def steps(self, stage: int) -> dict[int, float]:
        """Return the seconds of a stage's step by batch size."""
        if self is Machine.CPU:
            return {1: _CPU_STEP_SECONDS[stage]}
        return {size: gb / _GB_PER_SECOND for size, gb in _STEP_GB[stage].items()}

    def start(self, stage: int) -> float:
        """Return the seconds of a stage's start."""
        return _CPU_START_SECONDS[stage] if self is Machine.CPU else _START_GB[stage] / _GB_PER_SECOND


@dataclass
class Clock:
    """The virtual time."""

    now: float = 0.0


class SimulatedHandle(RequestHandle):
    """A deadline on the virtual clock."""

    def __init__(self, clock: Clock, deadline: float) -> None:
        """Create a handle with a deadline."""
        super().__init__(timeout=0)
        self._clock = clock
        self._due = deadline

    def remaining(self) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max(0.0, self._due - self._clock.now)


class SimulatedRow:
    """An image whose steps take time on the virtual clock alone."""

    def __init__(self, arrival: Arrival, request: Request, route: Route) -> None:
        """Create an image before its first step."""
        self.arrival = arrival
        self.request = request
        self.kinds = [stage[step] for stage in route.stages for step in range(len(stage))]
        self.starts = {0, *itertools.accumulate(map(len, route.stages))}
        self.left = len(self.kinds)
        self.preview: float | None = None

    @property
    def done(self) -> int:
        """Number of steps that are taken."""
        return len(self.kinds) - self.left

    @property
    def kind(self) -> StepKind:
        """The kind of the next step."""
        return self.kinds[self.done]

    @property
    def begun(self) -> bool:
        """Whether a step was taken."""
        return self.done > 0


def simulate(
    machine: Machine, route_of: Routes, times: StepTimes, policy: Policy, load: list[Arrival]
) -> tuple[list[Outcome], float]:
    """Return the outcomes of a load, and the seconds until the last one."""
    scheduler: Scheduler[SimulatedRow] = policy.scheduler(times, _LARGEST_BATCH)
    slots, clock, outcomes = engine_slots(machine.slots), Clock(), []
    waiting = deque(load)
    while waiting or len(slots):
        while waiting and waiting[0].seconds <= clock.now:
            arrival = waiting.popleft()
            route = route_of(arrival.work)
            handle = SimulatedHandle(clock, arrival.seconds + arrival.timeout if machine.deadlines else math.inf)
            request = new_request(handle, arrival.work, route, times)
            request.arrived = arrival.seconds
            try:
                slots.take(request)
            except ReimagenError:
                outcomes.append(Outcome(arrival, None, None, refused=True))
                continue
            request.seconds_left = seconds_left(route, times)
            row = SimulatedRow(arrival, request, route)
            request.rows = [row]  # type: ignore[list-item]
            request.measure()
            scheduler.add(row)
        for row in list(scheduler.rows()):
            if row.request.handle.remaining() == 0:
                scheduler.remove(row)
                slots.leave(row.request)
                outcomes.append(Outcome(row.arrival, None, row.preview))
        batch = scheduler.next_batch()
        if not batch:
            clock.now = max(clock.now, waiting[0].seconds if waiting else 0.0)
            continue
        kind = batch[0].kind
        seconds = times.seconds(kind)[times.batch_size(kind, len(batch))]
        times.measured(kind, len(batch), seconds)
        seconds += sum(times.start(row.kind) for row in batch if row.done in row.starts)
        clock.now += seconds
        scheduler.charge(batch, seconds)
        for row in batch:
            row.left -= 1
            row.request.measure()
            if row.preview is None and row.done >= len(row.kinds) // 2:
                row.preview = clock.now - row.arrival.seconds
            if row.left == 0:
                scheduler.remove(row)
                slots.leave(row.request)
                finished = clock.now - row.arrival.seconds
                outcomes.append(Outcome(row.arrival, finished if row.request.handle.remaining() else None, row.preview))
    return outcomes, clock.now


def stated_times(machine: Machine, cascade: Cascade, *, batches: bool) -> StepTimes:
    """Return the stated times of starts and steps, with the batch sizes that the engine would use, or only 1."""
    times = StepTimes()
    sizes = [1, 2, 4, 8, 16] if batches else [1]
    for index, stage in enumerate(cascade.config.stages):
        stated, seconds = machine.steps(index), dict[int, float]()
        for size in sizes:
            if size not in stated or not worthwhile(size, stated[size], seconds):
                break
            seconds[size] = stated[size]
        sizes = list(seconds)
        for slots in cascade.slot_counts if stage.network.retrieval else (0,):
            for evaluations in (1, 2, 3):
                kind = StepKind(index, slots, evaluations)
                times.add(kind, seconds)
                times.started(kind, machine.start(index))
    return times


def main(
    requests: Annotated[int, typer.Option(min=1, help="Number of requests of each run.")] = 1000,
    callers: Annotated[int, typer.Option(min=1, help="Number of API keys that the requests come from.")] = CALLERS,
    machine: Annotated[Machine, typer.Option(help="What is simulated.")] = Machine.TPU,
) -> None:
    """Print a table of the policies under several loads."""
    cascade = Cascade.random(DEMO, seed=0)
    shared, alone = (stated_times(machine, cascade, batches=batches) for batches in (True, False))
    print(
        f"simulated {machine.value}, {callers} callers: capacity of the engine {capacity(cascade, shared):.3g} "
        f"requests/s, one at a time {capacity(cascade, alone):.3g} requests/s"
    )
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    route_of, lines = routes(cascade), list[str]()
    for share in LOADS:
        load = arrivals(cascade, shared, share, requests, seed=0, callers=callers)
        runs = {}
        for policy in POLICIES:
            with policy.order():
                times = stated_times(machine, cascade, batches=policy.batches)
                outcomes, seconds = simulate(machine, route_of, times, policy, policy.requests(load))
            runs[policy] = Run(share, policy.name, outcomes, seconds)
            print("| " + " | ".join(runs[policy].row()) + " |", flush=True)
        lines += bars(runs[ENGINE], runs[ONE_AT_A_TIME])
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
