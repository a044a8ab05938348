"""Measured seconds of steps by batch size, and of the starts of stages, from which waiting times are estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# Weight of a new measurement in the running mean.
_NEW: Final = 0.2


@dataclass(frozen=True)
class StepKind:
    """Steps that may share a batch."""

    stage: int
    """Index of the stage."""
    slots: int
    """Number of neighbors for which rows have space."""
    evaluations: int
    """How often the step evaluates the network for each row."""


class StepTimes:
    """The seconds of each kind of step, by batch size, and of the start of each stage."""

    def __init__(self) -> None:
        """Start without measurements."""
        self._first: dict[StepKind, dict[int, float]] = {}
        self._mean: dict[StepKind, dict[int, float]] = {}
        self._recent: dict[StepKind, tuple[float, float]] = {}
        self._starts: dict[tuple[int, int], float] = {}

    def add(self, kind: StepKind, seconds: Mapping[int, float]) -> None:
        """Add a compiled kind of step, with its measured seconds by batch size."""
        self._first[kind] = dict(seconds)
        self._mean[kind] = dict(seconds)
        row = min(taken / size for size, taken in seconds.items())
        self._recent[kind] = (seconds[1], row)

    def measured(self, kind: StepKind, rows: int, seconds: float) -> None:
        """Add a later measurement to the running means. It does not change which batch sizes are used."""
        size = self.batch_size(kind, rows)
        self._mean[kind][size] += _NEW * (seconds - self._mean[kind][size])
        turn, row = self._recent[kind]
        self._recent[kind] = (turn + _NEW * (seconds - turn), row + _NEW * (seconds / rows - row))

    def started(self, kind: StepKind, seconds: float) -> None:
        """Add a measurement of a stage's start to the running mean; see `start`."""
        mean = self._starts.get((kind.stage, kind.slots), seconds)
        self._starts[kind.stage, kind.slots] = mean + _NEW * (seconds - mean)

    def __contains__(self, kind: StepKind) -> bool:
        """Return whether a kind of step is compiled."""
        return kind in self._first

    def sizes(self, stage: int) -> Sequence[int]:
        """Return the batch sizes that a stage uses."""
        return next(list(seconds) for kind, seconds in self._first.items() if kind.stage == stage)

    def seconds(self, kind: StepKind) -> Mapping[int, float]:
        """Return the seconds of a kind of step by batch size, as first measured."""
        return self._first[kind]

    def most(self, kind: StepKind) -> int:
        """Return the largest batch size of a kind."""
        return max(self._first[kind])

    def batch_size(self, kind: StepKind, rows: int) -> int:
        """Return the batch size that is fastest for each of the rows.

        It is the smallest that holds all rows, which may be partly filled, or a smaller one.
        """
        seconds = self._first[kind]
        fits = min((size for size in seconds if size >= rows), default=max(seconds))
        return min((size for size in seconds if size <= fits), key=lambda size: seconds[size] / min(size, rows))

    def alone(self, kind: StepKind) -> float:
        """Return the estimated seconds of a step of one row."""
        return self._estimate(kind)[1]

    def per_row(self, kind: StepKind) -> float:
        """Return the estimated seconds of a row's step in batches as full as lately; at first, in the best batch."""
        if kind in self._recent:
            return self._recent[kind][1]
        return min(seconds / size for size, seconds in self._estimate(kind).items())

    def turn(self, kind: StepKind) -> float:
        """Return the estimated seconds of a step of a batch as full as lately; at first, of one row."""
        return self._recent[kind][0] if kind in self._recent else self.alone(kind)

    def start(self, kind: StepKind) -> float:
        """Return the estimated seconds of all that a row computes before a stage whose first step is of that kind.

        These are the encoded texts and neighbors, the noised low-resolution image and the noise. Each row computes them
        alone.
        """
        similar = min(
            (known for known in self._starts if known[0] == kind.stage),
            key=lambda known: abs(known[1] - kind.slots),
        )
        return self._starts[similar]

    def _estimate(self, kind: StepKind) -> Mapping[int, float]:
        """Return the mean seconds by batch size; for a kind that is not compiled, those of the most similar one."""
        if kind in self._mean:
            return self._mean[kind]
        similar = min(
            (known for known in self._mean if known.stage == kind.stage),
            key=lambda known: (abs(known.slots - kind.slots), abs(known.evaluations - kind.evaluations)),
        )
        factor = kind.evaluations / similar.evaluations
        return {size: factor * seconds for size, seconds in self._mean[similar].items()}
