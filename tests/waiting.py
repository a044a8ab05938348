"""Wait for other threads and processes, up to a time limit."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from prometheus_client import REGISTRY

SECONDS = 240.0
INTERVAL_SECONDS = 0.01
T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return the first true value of a condition that nothing announces.

    Raises:
        AssertionError: The condition is still false after the time limit.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still false after {seconds:g} s"
        time.sleep(INTERVAL_SECONDS)
    return value


def waiting_requests() -> int:
    """Return the number of jobs' requests that wait for a slot, by the metric."""
    return int(REGISTRY.get_sample_value("reimagen_generator_requests_waiting") or 0)


class LoggedProcess:
    """A process whose output, with that of its children, is read line by line while it runs.

    As a context manager, it kills the process at the end.
    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None, *, stdout: bool = False
    ) -> None:
        """Start the command.

        Args:
            command: The program and its arguments.
            environment: Variables in addition to those of this process.
            stdout: Whether to read standard output too, and not only standard error.
        """
        self.popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if stdout else subprocess.PIPE,
            env=os.environ | (environment or {}),
            encoding="utf-8",
            errors="replace",
        )
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill the process, and read the rest of its output."""
        self.popen.kill()
        self.popen.wait()
        self._reader.join(SECONDS)

    @property
    def log(self) -> str:
        """The output so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Return the match of a pattern in a line of the output, at the `count`th line that has one.

        Raises:
            AssertionError: The output ended without it, or the time limit is over.
        """

        def matches() -> list[re.Match[str]]:
            return [match for line in self._lines if (match := re.search(pattern, line))]

        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(matches()) >= count, SECONDS)
            found = matches()
            assert len(found) >= count, f"no line {pattern!r} in:\n{''.join(self._lines)}"
            return found[count - 1]

    def _read(self) -> None:
        stream = self.popen.stdout or self.popen.stderr
        assert stream is not None
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
