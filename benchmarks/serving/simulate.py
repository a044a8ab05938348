"""Policies on a simulated accelerator, whose step times are inputs: the engine's scheduler under a virtual clock.

    python -m benchmarks.serving.simulate [--alone 0.010] [--per-row 0.002]

A step of a batch of b images takes `alone + (b - 1) * per-row` milliseconds at the first stage. At larger stages, whose
images keep the device busy, a row takes longer and a batch gains less.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import typer

from benchmarks.serving.load import Arrival, Outcome, arrivals, header, rows
from benchmarks.serving.policies import POLICIES
from reimagen_generator.config.presets import DEMO
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.image_row import Route
from reimagen_generator.engine.scheduler import Schedulable, Scheduler
from reimagen_generator.engine.step_times import StepKind, StepTimes

SHARES = {64: 0.6, 256: 0.3, 1024: 0.1}
LOADS = (0.5, 0.9, 1.5, 3.0)
BATCHES = (1, 2, 4, 8, 16)
CAPACITY = 64
REQUESTS = 2_000


@dataclass(eq=False)
class SimulatedRow:
    """An image whose steps take time on the virtual clock alone."""

    arrival: Arrival
    kinds: list[StepKind]
    done: int = 0
    preview: float | None = None
    flow: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.flow = (self.arrival.work.priority, "", self.arrival.work.size)

    @property
    def kind(self) -> StepKind:
        """The kind of the next step."""
        return self.kinds[self.done]

    @property
    def begun(self) -> bool:
        """Whether a step was taken."""
        return self.done > 0


def simulate(
    cascade: Cascade, times: StepTimes, scheduler: Scheduler[Schedulable], load: list[Arrival]
) -> tuple[list[Outcome], float]:
    """Return the outcomes of a load, and the seconds until the last one."""
    waiting = [(arrival.seconds, number, arrival) for number, arrival in enumerate(load)]
    heapq.heapify(waiting)
    now, active, outcomes = 0.0, 0, []
    while waiting or active:
        while waiting and waiting[0][0] <= now:
            arrival = heapq.heappop(waiting)[-1]
            if active >= CAPACITY:
                outcomes.append(Outcome(arrival, None, None))
                continue
            route = Route.of(cascade, arrival.work, 1)
            scheduler.add(SimulatedRow(arrival, [kind for kinds in route.kinds for kind in kinds]))
            active += 1
        batch: list[SimulatedRow] = scheduler.next_batch()  # type: ignore[assignment]
        if not batch:
            now = max(now, waiting[0][0])
            continue
        kind = batch[0].kind
        size = min(size for size in times.seconds(kind) if size >= len(batch))
        seconds = times.seconds(kind)[size]
        now += seconds
        scheduler.charge(batch, seconds)  # type: ignore[arg-type]
        for row in batch:
            row.done += 1
            if row.preview is None and row.done >= len(row.kinds) // 2:
                row.preview = now - row.arrival.seconds
            if row.done == len(row.kinds):
                scheduler.remove(row)
                active -= 1
                outcomes.append(Outcome(row.arrival, now - row.arrival.seconds, row.preview))
    return outcomes, now


def assumed_times(cascade: Cascade, alone: float, per_row: float) -> StepTimes:
    """Return times of steps: at each further stage, a step takes four times as long and a batch gains half as much."""
    times = StepTimes()
    for index, stage in enumerate(cascade.config.stages):
        first = alone * 4**index
        further = first - (alone - per_row) / alone * first / 2**index
        for slots in cascade.slot_counts if stage.network.retrieval else (0,):
            for evaluations in (1, 2, 3):
                kind = StepKind(index, slots, evaluations)
                times.add(kind, {size: first + (size - 1) * further for size in BATCHES})
    return times


def table(cascade: Cascade, times: StepTimes) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| " + " | ".join(header(sorted(SHARES))) + " |"
    yield "|" + "---|" * (4 + len(SHARES))
    for load in LOADS:
        requests = arrivals(cascade, times, SHARES, load, REQUESTS, seed=0)
        for name, policy in POLICIES.items():
            outcomes, seconds = simulate(cascade, times, policy(times, BATCHES[-1]), requests)
            yield "| " + " | ".join([f"{load:.0%}", name, *rows(outcomes, seconds)]) + " |"


def main(
    alone: Annotated[float, typer.Option(help="Seconds of a step of one image of the first stage.")] = 0.010,
    per_row: Annotated[float, typer.Option(help="Seconds of each further image of the batch.")] = 0.002,
) -> None:
    """Print a table of the policies under several loads."""
    cascade = Cascade.random(DEMO, seed=0)
    print(f"simulated: a step of the 64 stage takes {1000 * alone:.0f} ms and {1000 * per_row:.0f} ms a further image")
    for line in table(cascade, assumed_times(cascade, alone, per_row)):
        print(line)


if __name__ == "__main__":
    typer.run(main)
