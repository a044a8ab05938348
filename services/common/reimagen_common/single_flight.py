"""Share one computation among concurrent callers with the same key."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SingleFlight(Generic[Answer]):
    """A group of computations by key. Concurrent callers with the same key share one result or error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Answer]] = {}

    def do(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """Return the result of `work`, or wait for the result of a computation with the same key in progress."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                own_flight = self._flights[key] = Future()
        if flight is not None:
            return flight.result()
        try:
            own_flight.set_result(work())
        except BaseException as error:
            own_flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return own_flight.result()
