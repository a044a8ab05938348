"""Estimates of waiting time from the work that is admitted."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from reimagen_generator.engine.image_row import Request
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.route import Route
from reimagen_generator.engine.scheduler import WEIGHTS
from reimagen_generator.engine.step_times import StepKind, StepTimes
from reimagen_generator.engine.work import Priority, Work

Flow = tuple[Priority, str]


@dataclass(frozen=True)
class Backlog:
    """The estimated work of the admitted requests."""

    flows: Mapping[Flow, Sequence[Request]]
    """The requests of each flow."""

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Self:
        """Return the backlog of requests."""
        flows: defaultdict[Flow, list[Request]] = defaultdict(list)
        for request in requests:
            flows[request.flow].append(request)
        return cls(flows)

    @property
    def seconds(self) -> float:
        """Estimated seconds of all work."""
        return sum(request.remaining for requests in self.flows.values() for request in requests)

    @property
    def seconds_per_request(self) -> float:
        """Estimated mean time between two requests' ends; at least one second."""
        return max(1.0, self.seconds / max(1, sum(map(len, self.flows.values()))))

    def work(self, flow: Flow) -> float:
        """Return the estimated seconds of a flow's work."""
        return sum(request.remaining for request in self.flows.get(flow, ()))

    def finishes(self) -> dict[Request, float]:
        """Return the estimated seconds until each request is finished if no others arrive.

        A request waits for those of its flow that are due earlier. Meanwhile, each other flow gets at most its share of
        the time: as much as its own flow at the same priority, and more or less at another. An image takes each step
        with its whole batch, so it cannot be finished sooner than its steps in such batches take.
        """
        work = {flow: self.work(flow) for flow in self.flows}
        found = {}
        for flow, requests in self.flows.items():
            own = 0.0
            for request in sorted(requests, key=lambda request: request.due):
                own += request.remaining
                found[request] = max(request.remaining * request.slowdown, _elapsed(own, flow, work))
        return found


def _elapsed(own: float, flow: Flow, work: Mapping[Flow, float]) -> float:
    """Return the estimated seconds in which a flow gets `own` seconds of the device, beside the work of all flows."""
    priority, _ = flow
    level = own + sum(min(own, work[other]) for other in work if other[0] is priority and other != flow)
    for other in Priority:
        if other is not priority:
            total = sum(seconds for name, seconds in work.items() if name[0] is other)
            level += min(total, level * WEIGHTS[other] / WEIGHTS[priority])
    return level


def seconds_left(route: Route, times: StepTimes) -> list[float]:
    """Return the estimated seconds of an image among others, by the number of its steps that are left."""
    seconds = []
    for stage in route.stages:
        of_steps = stage.seconds(times.per_row)
        of_steps[0] += times.start(stage[0])
        seconds.append(of_steps)
    left: list[float] = np.cumsum(np.concatenate([[0.0], *(of_steps[::-1] for of_steps in reversed(seconds))])).tolist()
    return left


def new_request(handle: RequestHandle, work: Work, route: Route, times: StepTimes) -> Request:
    """Return a request with its estimates."""
    starts = sum(times.start(stage[0]) for stage in route.stages)
    images = work.images * seconds_left(route, times)[-1]
    return Request(
        handle,
        work,
        remaining=images,
        alone=max(starts + _total(route, times.alone), images),
        slowdown=(starts + _total(route, times.turn)) / images if images else 1.0,
    )


def _total(route: Route, estimate: Callable[[StepKind], float]) -> float:
    return float(sum(stage.seconds(estimate).sum() for stage in route.stages))
