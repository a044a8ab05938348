"""A peer in a separate process that works on request, so that peers can be measured in turns."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from benchmarks.shared.machine import peak_megabytes


class Peer(Protocol):
    """The two operations that are measured."""

    def evaluate(self) -> None:
        """Evaluate the network once, and wait for the result."""

    def draw(self) -> None:
        """Draw a batch of whole images, as arrays in this process."""


class Worker:
    """A process of `python -m MODULE ARGUMENTS` that runs `serve`."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
        )

    def seconds(self, work: str) -> float:
        """Run `evaluate` or `draw`, and return its seconds by the worker's clock (`CLOCK`).

        Raises:
            ChildProcessError: the worker has ended; it prints the reason on stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work}\n".encode())
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"{self._process.args!r} ended")
        return float(json.loads(line))

    @property
    def peak_megabytes(self) -> float:
        """The peak memory of the process, in MiB."""
        return peak_megabytes(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


CLOCK = "REIMAGEN_BENCHMARK_CLOCK"
"""Environment variable with the name of a worker's clock, a function of `time`: `perf_counter` or `process_time`."""


def serve(peer: Peer) -> None:
    """Run the operation that each input line names and print the seconds it took, until the input ends."""
    work = {"evaluate": peer.evaluate, "draw": peer.draw}
    clock = getattr(time, os.environ.get(CLOCK, "perf_counter"))
    for line in sys.stdin:
        started = clock()
        work[line.strip()]()
        print(clock() - started, flush=True)


def tokens_file(folder: Path) -> Path:
    """Return the file of the text's embeddings: the prompt's, then those of an empty text."""
    return folder / "tokens.npy"
