"""Counts of what became of requests."""

from dataclasses import dataclass, replace

from reimagen_generator import metrics


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
