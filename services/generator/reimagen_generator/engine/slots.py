"""The slots of the engine: requests that hold one, wait for one, or are refused."""

import math
import time
from collections.abc import Iterator

from reimagen_common.errors import Overloaded, ReimagenError
from reimagen_generator import metrics
from reimagen_generator.engine.backlog import Backlog
from reimagen_generator.engine.image_row import Request
from reimagen_generator.engine.refusals import refuse_greedy, refuse_late


class Slots:
    """A bounded number of slots for requests, and the requests that wait for one. The engine's lock guards it."""

    def __init__(self, number: int) -> None:
        """Create slots that are all free.

        Args:
            number: Maximum number of requests that are drawn, or wait to be drawn.
        """
        self.number = number
        """Maximum number of requests in the engine."""
        self._requests: list[Request] = []
        self._waiting: list[Request] = []

    def __len__(self) -> int:
        """Return the number of requests that hold a slot."""
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests that hold a slot."""
        return iter(self._requests)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        return len(self._waiting)

    def backlog(self) -> Backlog:
        """Return the work of the requests that hold a slot."""
        return Backlog.of(self._requests)

    def refuse_if_full(self) -> None:
        """Raise an error if all slots are taken.

        Raises:
            Overloaded: All slots are taken.
        """
        if len(self._requests) >= self.number:
            raise Overloaded(
                f"{len(self._requests)} requests are being drawn or waiting; try again later",
                retry_after=math.ceil(self.backlog().seconds_per_request),
            )

    def take(self, request: Request) -> None:
        """Give a request a slot now.

        Raises:
            Overloaded: All slots are taken, the caller holds its share of them, or the backlog is too long for the
                deadline.
            DeadlineExceeded: The deadline is too early even without other requests.
        """
        self.refuse_if_full()
        refuse_greedy(request, self._requests, self.number)
        refuse_late(request, self._requests)
        request.ahead = len(self._requests)
        self._requests.append(request)
        self._report()

    def wait(self, request: Request) -> None:
        """Give a request a slot as soon as `take` would, and end its handle's `wait_for_admission` then."""
        self._waiting.append(request)
        self._admit_waiting()

    def leave(self, request: Request) -> None:
        """Free a request's slot, or end its wait, and admit those that waited for that."""
        for group in (self._requests, self._waiting):
            if request in group:
                group.remove(request)
        self._report()
        self._admit_waiting()

    def end_waiting(self, error: ReimagenError) -> None:
        """End all waits with an error."""
        for request in self._waiting:
            request.handle.post(error)
        self._waiting.clear()

    def _admit_waiting(self) -> None:
        """Admit requests that wait, those that came first at first, as far as they fit."""
        for request in list(self._waiting):
            request.arrived = time.monotonic()
            request.handle.restart()
            try:
                self.take(request)
            except Overloaded:
                continue
            except ReimagenError as error:
                request.handle.post(error)
            else:
                request.handle.admit()
            self._waiting.remove(request)

    def _report(self) -> None:
        metrics.QUEUE_LENGTH.set(len(self._requests))
        metrics.SLOTS_USED.set(len(self._requests) / self.number)
