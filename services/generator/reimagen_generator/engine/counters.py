"""Counts of what became of requests."""

from dataclasses import dataclass, replace

from reimagen_common.errors import DeadlineExceeded
from reimagen_generator import metrics
from reimagen_generator.engine.request_handle import Cancelled


@dataclass(frozen=True)
class Counters:
    """How many requests have ended in each way since the start, and how many steps were taken."""

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    deadline_exceeded: int = 0
    refused: int = 0
    steps: int = 0


class Tally:
    """Counts, in the counters and the metrics. The engine's lock guards it."""

    def __init__(self) -> None:
        """Start at zero."""
        self.counters = Counters()
        """The counters since the start."""

    def count(self, **more: int) -> None:
        """Add to the counters of these names."""
        counted = {name: getattr(self.counters, name) + value for name, value in more.items()}
        self.counters = replace(self.counters, **counted)
        for name, value in more.items():
            if name != "steps":
                metrics.CALLS.labels(name).inc(value)

    def ended(self, error: BaseException) -> None:
        """Count a request that ended by an error before its images were finished."""
        match error:
            case Cancelled() | GeneratorExit():
                self.count(cancelled=1)
            case DeadlineExceeded():
                self.count(deadline_exceeded=1)
            case _:
                self.count(failed=1)
