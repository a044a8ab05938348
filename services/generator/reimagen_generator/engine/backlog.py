"""Estimates of waiting time from the work that is admitted."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from reimagen_generator.engine.image_row import Request, Route
from reimagen_generator.engine.step_times import StepTimes
from reimagen_generator.engine.work import Work


@dataclass(frozen=True)
class Backlog:
    """The estimated seconds of the admitted requests."""

    requests: int
    flows: Mapping[tuple[object, ...], float]
    """Estimated seconds of work of each flow."""

    @classmethod
    def of(cls, requests: Iterable[Request], times: StepTimes) -> Self:
        """Return the backlog of requests. A request without images yet, or with none left, counts as estimated."""
        flows: defaultdict[tuple[object, ...], float] = defaultdict(float)
        count = 0
        for request in requests:
            count += 1
            if request.started is None:
                flows[request.flow] += request.seconds
            else:
                flows[request.flow] += sum(
                    times.per_row(kind) for row in request.rows for kind in row.remaining_kinds()
                )
        return cls(count, flows)

    @property
    def seconds(self) -> float:
        """Estimated seconds of all work."""
        return sum(self.flows.values())

    @property
    def seconds_per_request(self) -> float:
        """Estimated mean time between two requests' ends; at least one second."""
        return max(1.0, self.seconds / max(1, self.requests))

    def seconds_until_finished(self, request: Request) -> float:
        """Return the estimated seconds until a new request is finished.

        It waits for the work of its own flow, which comes before it. Meanwhile, each other flow gets at most an equal
        share of the time.
        """
        own = request.seconds + self.flows.get(request.flow, 0.0)
        return own + sum(min(own, seconds) for flow, seconds in self.flows.items() if flow != request.flow)


def estimate(route: Route, work: Work, times: StepTimes) -> float:
    """Return the estimated seconds of a request's images without other requests."""
    kinds = [kind for stage in route.kinds for kind in stage]
    return max(sum(map(times.alone, kinds)), work.images * sum(map(times.per_row, kinds)))
