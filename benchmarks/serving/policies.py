"""The policies that are compared: the engine's own, and two that it must beat."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from benchmarks.serving.load import Arrival
from reimagen_generator.engine import image_row
from reimagen_generator.engine.scheduler import RowType, Scheduler
from reimagen_generator.engine.step_times import StepTimes


class WholeRequests(Scheduler[RowType]):
    """Draws batches of equal images, which start together and end together, in the order of arrival."""

    def __init__(self, times: StepTimes, largest_batch: int) -> None:
        """Create a scheduler without images; see `Scheduler`."""
        super().__init__(times, largest_batch)
        self._batch: list[RowType] = []

    def next_batch(self) -> list[RowType]:
        """Return the current batch, or form a new one of waiting images that take the same steps as the first."""
        rows = list(self.rows())
        self._batch = [row for row in self._batch if row in rows]
        if not self._batch and rows:
            first = rows[0]
            alike = [row for row in rows if row.kind == first.kind and row.left == first.left]
            self._batch = alike[: self._times.batch_size(first.kind, len(alike))]
        return list(self._batch)


@dataclass(frozen=True)
class Policy:
    """How requests are ordered and batched."""

    name: str
    scheduler: Callable[[StepTimes, int], Scheduler[RowType]]
    batches: bool
    """Whether images share batches."""
    by_arrival: bool
    """Whether requests are served in the order of arrival, without equal shares for callers.

    The estimates of admission assume the same order.
    """

    def requests(self, load: list[Arrival]) -> list[Arrival]:
        """Return the load as the policy sees it."""
        if not self.by_arrival:
            return load
        return [replace(arrival, work=replace(arrival.work, caller="")) for arrival in load]

    @contextmanager
    def order(self) -> Iterator[None]:
        """Make the order of the engine's queue and estimates the policy's."""
        stretch = image_row.STRETCH
        image_row.STRETCH = 0.0 if self.by_arrival else stretch  # type: ignore[misc]
        try:
            yield
        finally:
            image_row.STRETCH = stretch  # type: ignore[misc]


ENGINE = Policy("engine", Scheduler, batches=True, by_arrival=False)
ONE_AT_A_TIME = Policy("one at a time", Scheduler, batches=False, by_arrival=True)
WHOLE_REQUESTS = Policy("whole requests", WholeRequests, batches=True, by_arrival=True)
POLICIES = (ENGINE, ONE_AT_A_TIME, WHOLE_REQUESTS)
"""All policies."""
