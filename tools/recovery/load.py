"""Clients that send requests without pause, and what became of them."""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from reimagen_client import Client, ReimagenError

PROMPTS: Final = ("a red panda", "an elephant on a beach", "a snail in the snow", "a cactus", "a lighthouse at night")


@dataclass
class Outcome:
    """The requests of all clients since a point in time."""

    answered: int = 0
    errors: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0


class Load:
    """Threads with one client each, which draw small images until they are stopped."""

    def __init__(self, connect: Callable[[], Client], threads: int, size: int) -> None:
        """Prepare the threads.

        Args:
            connect: Returns a new client.
            threads: Number of threads.
            size: Side of the images, in pixels.
        """
        self._connect = connect
        self._size = size
        self._outcome = Outcome()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._number = itertools.count()
        self._threads = [threading.Thread(target=self._send) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> Outcome:
        """Return the outcome since the last call."""
        with self._lock:
            taken, self._outcome = self._outcome, Outcome()
        return taken

    def answered(self) -> int:
        """Return the number of answers since the last call of `take`."""
        with self._lock:
            return self._outcome.answered

    def _send(self) -> None:
        with self._connect() as client:
            while not self._stop.is_set():
                number = next(self._number)
                error = None
                start = time.monotonic()
                try:
                    client.generate(f"{PROMPTS[number % len(PROMPTS)]} {number}", size=self._size, retrieval={"k": 2})
                except ReimagenError as failure:
                    error = f"{type(failure).__name__}: {failure}"
                with self._lock:
                    self._outcome.answered += error is None
                    self._outcome.errors += [] if error is None else [error]
                    self._outcome.longest_seconds = max(self._outcome.longest_seconds, time.monotonic() - start)
