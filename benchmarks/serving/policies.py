"""The policies that are compared: the engine's own, and two that it must beat."""

from collections.abc import Callable, Iterator

from reimagen_generator.engine.scheduler import Schedulable, Scheduler
from reimagen_generator.engine.step_times import StepTimes


class OneAtATime(Scheduler[Schedulable]):
    """Draws one image after another, in the order of arrival."""

    def __init__(self, times: StepTimes, largest_batch: int) -> None:
        super().__init__(times, largest_batch)
        self._rows: list[Schedulable] = []

    def add(self, row: Schedulable) -> None:
        """Append an image."""
        self._rows.append(row)

    def remove(self, row: Schedulable) -> None:
        """Remove an image."""
        self._rows.remove(row)

    def rows(self) -> Iterator[Schedulable]:
        """Yield the images in the order of arrival."""
        return iter(list(self._rows))

    def next_batch(self) -> list[Schedulable]:
        """Return the first image."""
        return self._rows[:1]

    def charge(self, rows: list[Schedulable], seconds: float) -> None:
        """Do nothing: the order does not depend on past work."""


class WholeRequests(OneAtATime):
    """Draws batches of equal images, which start together and end together, in the order of arrival."""

    def __init__(self, times: StepTimes, largest_batch: int) -> None:
        super().__init__(times, largest_batch)
        self._batch: list[Schedulable] = []

    def next_batch(self) -> list[Schedulable]:
        """Return the current batch, or form a new one of waiting images that take the same steps as the first."""
        self._batch = [row for row in self._batch if row in self._rows]
        if not self._batch and self._rows:
            first = self._rows[0]
            most = self._times.most(first.kind)
            alike = [row for row in self._rows if (row.flow[-1], row.kind) == (first.flow[-1], first.kind)]
            self._batch = alike[:most]
        # Images of other lengths leave the batch early; the others go on.
        kind = self._batch[0].kind if self._batch else None
        together = [row for row in self._batch if row.kind == kind]
        return together[: self._times.most(kind)] if kind else []


POLICIES: dict[str, Callable[[StepTimes, int], Scheduler[Schedulable]]] = {
    "step by step": Scheduler,
    "one at a time": OneAtATime,
    "whole requests": WholeRequests,
}
"""The policies by name; the first is the engine's."""
