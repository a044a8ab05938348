"""An engine in a separate process that works on request, so that engines can be measured in turns.

python -m benchmarks.bm25.worker ENGINE FOLDER
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.bm25.engines import ENGINES, Engine, Ranking
from benchmarks.shared.machine import peak_megabytes


class Worker:
    """A process with an engine's index, which it builds or opens in the folder."""

    def __init__(self, engine: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.bm25.worker", engine, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def build(self, captions: Path) -> float:
        """Build the index, and return the seconds it took."""
        return float(self._ask("build", str(captions)))

    def open(self) -> float:
        """Open the index, and return the seconds until the first query was answered, including the start of Java."""
        return float(self._ask("open"))

    def search(self, queries: Sequence[str]) -> list[float]:
        """Search one by one, and return the milliseconds of each search."""
        return [float(milliseconds) for milliseconds in self._ask("search", queries)]

    def begin_search(self, queries: Sequence[str]) -> None:
        """Start a search, for which `end_search` waits."""
        self._send("search", queries)

    def end_search(self) -> None:
        """Wait for the search that `begin_search` started."""
        self._receive()

    def search_on_two_threads(self, queries: Sequence[str]) -> float:
        """Search on two threads, and return the seconds for all queries."""
        return float(self._ask("search_on_two_threads", queries))

    def rankings(self, queries: Sequence[str]) -> list[Ranking]:
        """Return the rankings of the queries, with scores."""
        return [[(number, score) for number, score in ranking] for ranking in self._ask("rankings", queries)]

    @property
    def peak_megabytes(self) -> float:
        """The peak memory of the process, in MiB."""
        return peak_megabytes(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, work: str, argument: object = None) -> Any:
        self._send(work, argument)
        return self._receive()

    def _send(self, work: str, argument: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([work, argument]).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"{self._process.args!r} ended")
        return json.loads(line)


class _Work:
    """The process's side of `Worker`: one method for each request."""

    def __init__(self, kind: type[Engine], folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._opened: Engine | None = None

    @property
    def _engine(self) -> Engine:
        assert self._opened
        return self._opened

    def build(self, captions: str) -> float:
        started = time.perf_counter()
        self._kind.build(Path(captions), self._folder)
        return time.perf_counter() - started

    def open(self, _: None) -> float:
        started = time.perf_counter()
        self._opened = self._kind(self._folder)
        self._engine.search("a first query")
        return time.perf_counter() - started

    def search(self, queries: list[str]) -> list[float]:
        taken = []
        for query in queries:
            started = time.perf_counter()
            self._engine.search(query)
            taken.append((time.perf_counter() - started) * 1e3)
        return taken

    def search_on_two_threads(self, queries: list[str]) -> float:
        started = time.perf_counter()
        self._engine.search_on_two_threads(queries)
        return time.perf_counter() - started

    def rankings(self, queries: list[str]) -> list[Ranking]:
        return [self._engine.ranking(self._engine.search(query)) for query in queries]


def main(engine: str, folder: str) -> None:
    """Execute each request of the standard input and print its result as a line, until the input ends."""
    work = _Work(ENGINES[engine], Path(folder))
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Anserini's indexer writes its log to the standard output.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        name, argument = json.loads(line)
        print(json.dumps(getattr(work, name)(argument)), file=results, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
