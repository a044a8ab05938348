"""The choice of the images that take the next step."""

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

from reimagen_generator.engine.fair_queue import FairQueue
from reimagen_generator.engine.image_row import Request
from reimagen_generator.engine.step_times import StepKind, StepTimes
from reimagen_generator.engine.work import Priority

WEIGHTS: Final = {Priority.INTERACTIVE: 4.0, Priority.BACKGROUND: 1.0}
"""The shares of the priorities."""
# Images with a state on the device, as a multiple of the largest batch. Each takes memory for its neighbors' maps.
_BEGUN_BATCHES: Final = 4


class Schedulable(Protocol):
    """An image that waits for its next step."""

    @property
    def request(self) -> Request:
        """Its request."""

    @property
    def kind(self) -> StepKind:
        """The kind of its next step."""

    @property
    def left(self) -> int:
        """Number of steps that are not taken yet."""

    @property
    def begun(self) -> bool:
        """Whether it has a state on the device."""


RowType = TypeVar("RowType", bound=Schedulable)


class Scheduler(Generic[RowType]):
    """Chooses batches: the image whose turn it is, and others that can take their step with it.

    Priorities and callers share the device fairly. Of the images of one caller, the one that is due first is served
    first. It is not thread-safe.
    """

    def __init__(self, times: StepTimes, largest_batch: int) -> None:
        """Create a scheduler without images.

        Args:
            times: The compiled steps with their measured times.
            largest_batch: Maximum number of images in a batch.
        """
        self._times = times
        self._most_begun = _BEGUN_BATCHES * largest_batch
        self._queue: FairQueue[RowType] = FairQueue(_due, _remaining, WEIGHTS)

    def add(self, row: RowType) -> None:
        """Add an image."""
        self._queue.add(row.request.flow, row)

    def remove(self, row: RowType) -> None:
        """Remove an image."""
        self._queue.remove(row.request.flow, row)

    def rows(self) -> Iterator[RowType]:
        """Yield all images, those whose turn it is first."""
        return self._queue.in_order()

    def next_batch(self) -> list[RowType]:
        """Return the images that take the next step together; none if there are no images."""
        rows = list(self.rows())
        if not rows:
            return []
        kind = rows[0].kind
        most = self._times.most(kind)
        to_begin = self._most_begun - sum(row.begun for row in rows)
        batch = rows[:1]
        for row in rows[1:]:
            fits = (row.kind.stage, row.kind.slots) == (kind.stage, kind.slots)
            if len(batch) < most and fits and row.kind.evaluations <= kind.evaluations and (row.begun or to_begin > 0):
                to_begin -= not row.begun
                batch.append(row)
        return batch[: self._times.batch_size(kind, len(batch))]

    def charge(self, rows: list[RowType], seconds: float) -> None:
        """Count the seconds of a step to the flows of its images, in equal parts."""
        for row in rows:
            self._queue.charge(row.request.flow, seconds / len(rows))


def _due(row: Schedulable) -> float:
    return row.request.due


def _remaining(row: Schedulable) -> float:
    return row.request.remaining
