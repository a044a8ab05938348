"""One peer in a process of its own, which does its work when it is told to, so that the peers can take turns."""

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
    """What is measured."""

    def evaluate(self) -> None:
        """One evaluation of the network, to its end."""

    def draw(self) -> None:
        """Whole images, a batch of them, as numbers in this process."""


class Worker:
    """A process of `python -m MODULE ARGUMENTS`, which answers as `serve` does."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
        )

    def seconds(self, work: str) -> float:
        """How long it took to `evaluate` or to `draw`, by the worker's own clock (`CLOCK`).

        Raises:
            ChildProcessError: the worker has ended; it has said why.
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
        """The most memory that it has had at once, in MiB."""
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
"""The variable that names a worker's clock, a function of `time`: `perf_counter` or `process_time`."""


def serve(peer: Peer) -> None:
    """Does what each line of the input names, and puts out how many seconds it took, until the input ends."""
    work = {"evaluate": peer.evaluate, "draw": peer.draw}
    clock = getattr(time, os.environ.get(CLOCK, "perf_counter"))
    for line in sys.stdin:
        started = clock()
        work[line.strip()]()
        print(clock() - started, flush=True)


def tokens_file(folder: Path) -> Path:
    """Where the text's embeddings lie: the prompt's, then those of no text."""
    return folder / "tokens.npy"
