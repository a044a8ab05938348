"""The slots of a backend: requests that hold one, wait for one, or are refused.

This module does not import JAX, because the backend of an image server needs it.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final, Generic, Protocol, TypeVar

from reimagen_common.errors import Overloaded, ReimagenError
from reimagen_generator import metrics
from reimagen_generator.engine.request_handle import RequestHandle

# Share of the slots that one API key may hold, so that others can be admitted.
_CALLER_SHARE: Final = 0.5


class Holder(Protocol):
    """A request that holds a slot, or asks for one."""

    ahead: int
    """Number of requests that were admitted before it and had not ended."""
    arrived: float
    """When it was admitted, by the monotonic clock."""

    @property
    def handle(self) -> RequestHandle:
        """Its deadline and cancellation."""
        ...

    @property
    def caller(self) -> str:
        """Id of the caller's API key; empty if there is none."""
        ...


HolderType = TypeVar("HolderType", bound=Holder)


class Slots(Generic[HolderType]):
    """A bounded number of slots for requests, and the requests that wait for one. The backend's lock guards it."""

    def __init__(
        self,
        number: int,
        pause: Callable[[Collection[HolderType]], float],
        refuse: Callable[[HolderType, Collection[HolderType]], None] | None = None,
    ) -> None:
        """Create slots that are all free.

        Args:
            number: Maximum number of requests that hold a slot.
            pause: Returns the seconds after which a refused request may be sent again, of those that hold a slot.
            refuse: Raises Overloaded or DeadlineExceeded for a request that must not join those that hold a slot.
                None: any may join as long as a slot is free.
        """
        self.number = number
        """Maximum number of requests that hold a slot."""
        self._pause = pause
        self._refuse = refuse
        self._requests: list[HolderType] = []
        self._waiting: list[HolderType] = []

    def __len__(self) -> int:
        """Return the number of requests that hold a slot."""
        return len(self._requests)

    def __iter__(self) -> Iterator[HolderType]:
        """Yield the requests that hold a slot."""
        return iter(self._requests)

    def refuse_if_full(self) -> None:
        """Raise an error if all slots are taken.

        Raises:
            Overloaded: All slots are taken.
        """
        if len(self._requests) >= self.number:
            raise self._overloaded(f"{len(self._requests)} requests are being drawn or waiting; try again later")

    def take(self, request: HolderType) -> None:
        """Give a request a slot now.

        Raises:
            Overloaded: All slots are taken, the caller holds its share of them, or `refuse` raises it.
            DeadlineExceeded: `refuse` raises it.
        """
        self.refuse_if_full()
        held = sum(other.caller == request.caller for other in self._requests)
        if request.caller and held >= max(1, int(_CALLER_SHARE * self.number)):
            raise self._overloaded(f"{held} requests of this API key are being drawn or waiting; try again later")
        if self._refuse is not None:
            self._refuse(request, self._requests)
        request.ahead = len(self._requests)
        self._requests.append(request)
        self._report()

    def wait(self, request: HolderType) -> None:
        """Give a request a slot as soon as `take` would, and end its handle's `wait_for_admission` then."""
        self._waiting.append(request)
        self._admit_waiting()

    def leave(self, request: HolderType) -> None:
        """Free a request's slot, or end its wait, and admit those that waited for that."""
        for group in (self._requests, self._waiting):
            if request in group:
                group.remove(request)
        self._admit_waiting()

    def end_waiting(self, error: ReimagenError) -> None:
        """End all waits with an error."""
        for request in self._waiting:
            request.handle.post(error)
        self._waiting.clear()
        self._report()

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
        self._report()

    def _overloaded(self, message: str) -> Overloaded:
        return Overloaded(message, retry_after=math.ceil(self._pause(self._requests)))

    def _report(self) -> None:
        metrics.QUEUE_LENGTH.set(len(self._requests))
        metrics.SLOTS_USED.set(len(self._requests) / self.number)
        metrics.REQUESTS_WAITING.set(len(self._waiting))
