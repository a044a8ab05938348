"""An open-loop load of requests, and what came of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np

from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.engine.backlog import seconds_left
from reimagen_generator.engine.route import Route
from reimagen_generator.engine.step_times import StepTimes
from reimagen_generator.engine.work import Work

NEIGHBORS = 1
SHARES: Mapping[int, float] = {64: 0.6, 256: 0.3, 1024: 0.1}
"""Share of the requests, by image size."""
STEPS_FACTORS = (0.5, 1.0, 1.0, 2.0)
"""Steps as multiples of the cascade's own, equally probable: low, medium twice, and high quality."""
CALLERS = 4
"""Requests come from so many API keys."""
LOADS = (0.5, 0.9, 1.5)
"""Rates of arrivals, as shares of the engine's capacity."""
DEADLINE_FACTOR = 10
"""The deadline of a request is so many times the seconds that it takes alone."""


@dataclass(frozen=True)
class Arrival:
    """A request of the load."""

    seconds: float
    """When it arrives, after the start."""
    work: Work
    alone: float
    """Seconds that it takes alone."""

    @property
    def timeout(self) -> float:
        """Seconds until its deadline."""
        return DEADLINE_FACTOR * self.alone


@dataclass(frozen=True)
class Outcome:
    """What came of a request."""

    arrival: Arrival
    finished: float | None
    """Seconds after its arrival; None if it was refused or ended by its deadline."""
    preview: float | None
    """Seconds until its first preview."""
    refused: bool = False
    """Whether it was refused at once."""

    @property
    def in_time(self) -> bool:
        """Whether it was finished by its deadline."""
        return self.finished is not None and self.finished <= self.arrival.timeout


Routes = Callable[[Work], Route]


def routes(cascade: Cascade) -> Routes:
    """Return a function that returns the route of a request's images; equal requests share it."""

    @cache
    def of(size: int, steps_factor: float) -> Route:
        guidance = cascade.resolve_guidance(GuidanceOptions(), size)
        work = Work(1, size, NEIGHBORS, guidance, steps_factor=steps_factor)
        return Route.of(cascade, work, NEIGHBORS)

    return lambda work: of(work.size, work.steps_factor)


def capacity(cascade: Cascade, times: StepTimes) -> float:
    """Return how many requests of the mix the engine can draw per second, by the times of starts and steps."""
    route_of = routes(cascade)
    mean = 0.0
    for size, share in SHARES.items():
        for steps_factor in STEPS_FACTORS:
            route = route_of(Work(1, size, NEIGHBORS, (), steps_factor=steps_factor))
            mean += share / len(STEPS_FACTORS) * seconds_left(route, times)[-1]
    return 1 / mean


def arrivals(
    cascade: Cascade, times: StepTimes, load: float, count: int, seed: int, callers: int = CALLERS
) -> list[Arrival]:
    """Return requests that arrive as a Poisson process.

    Args:
        cascade: The cascade.
        times: The times of its starts and steps.
        load: The rate, as a share of the engine's capacity.
        count: Number of requests.
        seed: Seed of the load.
        callers: Number of API keys, equally probable.
    """
    random = Random(seed)  # noqa: S311  (a load, not a secret)
    rate, route_of = load * capacity(cascade, times), routes(cascade)
    now, found = 0.0, []
    for _ in range(count):
        now += random.expovariate(rate)
        size = random.choices(list(SHARES), list(SHARES.values()))[0]
        work = Work(
            1,
            size,
            NEIGHBORS,
            cascade.resolve_guidance(GuidanceOptions(), size),
            steps_factor=random.choice(STEPS_FACTORS),
            caller=f"key {random.randrange(callers)}",
        )
        route = route_of(work)
        alone = sum(times.start(stage[0]) + float(stage.seconds(times.alone).sum()) for stage in route.stages)
        found.append(Arrival(now, work, alone))
    return found


HEADER = (
    "load",
    "policy",
    "in time/s",
    *[f"of {size} px" for size in SHARES],
    "refused",
    "late",
    *[f"{size} px: p50, p95, preview (s)" for size in SHARES],
)
"""The names of a table's cells."""


@dataclass(frozen=True)
class Run:
    """The outcomes of one policy under one load."""

    load: float
    policy: str
    outcomes: Sequence[Outcome]
    seconds: float
    """Seconds until the last outcome."""

    def of(self, size: int) -> list[Outcome]:
        """Return the outcomes of one size of images."""
        return [outcome for outcome in self.outcomes if outcome.arrival.work.size == size]

    def goodput(self, size: int | None = None) -> float:
        """Return how many requests were finished by their deadlines per second, of all sizes or one."""
        outcomes = self.outcomes if size is None else self.of(size)
        return sum(outcome.in_time for outcome in outcomes) / self.seconds

    def percentile(self, size: int, percent: float) -> float:
        """Return a percentile of the seconds of the requests that were finished; NaN if there are none."""
        finished = [outcome.finished for outcome in self.of(size) if outcome.finished is not None]
        return float(np.percentile(finished, percent)) if finished else float("nan")

    def row(self) -> Iterator[str]:
        """Yield the cells of the table's row."""
        refused = sum(outcome.refused for outcome in self.outcomes)
        late = sum(not outcome.in_time for outcome in self.outcomes) - refused
        yield from (f"{self.load:.0%}", self.policy, f"{self.goodput():.3g}")
        yield from (f"{self.goodput(size):.3g}" for size in SHARES)
        yield from (f"{count / len(self.outcomes):.0%}" for count in (refused, late))
        for size in SHARES:
            previews = [outcome.preview for outcome in self.of(size) if outcome.preview is not None]
            preview = float(np.median(previews)) if previews else float("nan")
            yield f"{self.percentile(size, 50):.3g}, {self.percentile(size, 95):.3g}, {preview:.3g}"


def bars(engine: Run, alone: Run) -> Iterator[str]:
    """Yield a line for each target of a load: the engine beside drawing one at a time."""
    yield f"load {engine.load:.0%}, engine over one at a time:"
    yield f"  requests in time: {engine.goodput() / alone.goodput():.2f}"
    for size in SHARES:
        goodput = engine.goodput(size) / alone.goodput(size) if alone.goodput(size) else float("inf")
        p50, p95 = (engine.percentile(size, p) / alone.percentile(size, p) for p in (50, 95))
        yield f"  {size} px: requests in time {goodput:.2f}, p50 {p50:.2f}, p95 {p95:.2f}"
