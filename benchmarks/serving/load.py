"""An open-loop load of requests, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.engine.image_row import Route
from reimagen_generator.engine.step_times import StepTimes
from reimagen_generator.engine.work import Work

NEIGHBORS = 1
DEADLINE_FACTOR = 10
"""A request counts as served in time if it takes at most this many times as long as alone."""


@dataclass(frozen=True)
class Arrival:
    """A request of the load."""

    seconds: float
    """When it arrives, after the start."""
    work: Work
    alone: float
    """Seconds that it takes alone."""


@dataclass(frozen=True)
class Outcome:
    """What came of a request."""

    arrival: Arrival
    finished: float | None
    """Seconds after its arrival; None if it was refused."""
    preview: float | None
    """Seconds until its first preview."""

    @property
    def in_time(self) -> bool:
        """Whether it was served in time."""
        return self.finished is not None and self.finished <= DEADLINE_FACTOR * self.arrival.alone


def arrivals(
    cascade: Cascade, times: StepTimes, shares: Mapping[int, float], load: float, count: int, seed: int
) -> list[Arrival]:
    """Return requests that arrive as a Poisson process.

    Args:
        cascade: The cascade.
        times: The measured times of its steps.
        shares: Share of the requests, by image size.
        load: The rate, as a share of the capacity of drawing one image at a time.
        count: Number of requests.
        seed: Seed of the load.
    """
    random = Random(seed)  # noqa: S311  (a load, not a secret)
    sizes = list(shares)
    drawn: list[tuple[Work, float]] = []
    for _ in range(count):
        size = random.choices(sizes, [shares[size] for size in sizes])[0]
        guidance = cascade.resolve_guidance(GuidanceOptions(), size)
        work = Work(1, size, NEIGHBORS, guidance, steps_factor=random.choice((0.5, 1.0, 1.0, 2.0)))
        route = Route.of(cascade, work, NEIGHBORS)
        drawn.append((work, sum(times.alone(kind) for kinds in route.kinds for kind in kinds)))
    mean = sum(alone for _, alone in drawn) / count
    now, found = 0.0, []
    for work, alone in drawn:
        now += random.expovariate(load / mean)
        found.append(Arrival(now, work, alone))
    return found


def rows(outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    """Yield the table's cells of a run: goodput, refused, then p50, p95 and time to preview by size."""
    yield f"{sum(outcome.in_time for outcome in outcomes) / seconds:.2f}"
    yield f"{sum(outcome.finished is None for outcome in outcomes) / len(outcomes):.0%}"
    for size in sorted({outcome.arrival.work.size for outcome in outcomes}):
        of_size = [outcome for outcome in outcomes if outcome.arrival.work.size == size]
        finished = [outcome.finished for outcome in of_size if outcome.finished is not None]
        previews = [outcome.preview for outcome in of_size if outcome.preview is not None]
        if not finished:
            yield "–"
            continue
        p50, p95 = np.percentile(finished, [50, 95])
        yield f"{p50:.2f}, {p95:.2f}, {np.median(previews):.2f}"


def header(sizes: Sequence[int]) -> Iterator[str]:
    """Yield the names of the cells."""
    yield from ("load", "policy", "in time/s", "refused")
    for size in sizes:
        yield f"{size} px: p50, p95, preview (s)"
