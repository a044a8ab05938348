"""Share one computation among concurrent callers with the same key."""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
Key = TypeVar("Key", bound=Hashable)


class SingleFlight(Generic[Answer]):
    """A group of computations by key. Concurrent callers with the same key share one result or error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Answer]] = {}

    def do(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """Return the result of `work`, or wait for the result of a computation with the same key in progress."""
        return self.do_all([key], lambda _: [work()])[0]

    def do_all(self, keys: Sequence[Key], work: Callable[[list[Key]], Sequence[Answer]]) -> list[Answer]:
        """Return the result for each key.

        Args:
            keys: The keys, each any number of times.
            work: A function that returns the results for the keys that no computation in progress has, all at once.
        """
        flights: list[Future[Answer]] = []
        own: dict[Key, Future[Answer]] = {}
        with self._lock:
            for key in keys:
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = own[key] = Future()
                flights.append(flight)
        try:
            # Before waiting for others, which may wait for these.
            for flight, answer in zip(own.values(), work(list(own)) if own else (), strict=True):
                flight.set_result(answer)
        except BaseException as error:
            for flight in own.values():
                flight.set_exception(error)
            raise
        finally:
            with self._lock:
                for key in own:
                    del self._flights[key]
        return [flight.result() for flight in flights]
