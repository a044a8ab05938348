"""One engine in a process of its own, which works when it is told to, so that the engines can take turns.

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
    """The process, with the index in the folder opened, or to be built there."""

    def __init__(self, engine: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.bm25.worker", engine, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def build(self, captions: Path) -> float:
        """Builds the index; how many seconds it took."""
        return float(self._ask("build", str(captions)))

    def open(self) -> float:
        """Opens the index; how many seconds until the first query was answered, the start of Java included."""
        return float(self._ask("open"))

    def search(self, queries: Sequence[str]) -> list[float]:
        """Searches one by one; milliseconds each."""
        return [float(milliseconds) for milliseconds in self._ask("search", queries)]

    def begin_search(self, queries: Sequence[str]) -> None:
        """Begins what `end_search` waits for."""
        self._send("search", queries)

    def end_search(self) -> None:
        """Waits."""
        self._receive()

    def search_on_two_threads(self, queries: Sequence[str]) -> float:
        """Seconds for all of them."""
        return float(self._ask("search_on_two_threads", queries))

    def rankings(self, queries: Sequence[str]) -> list[Ranking]:
        """What is found, and its scores."""
        return [[(number, score) for number, score in ranking] for ranking in self._ask("rankings", queries)]

    @property
    def peak_megabytes(self) -> float:
        """The most memory that it has had at once, in MiB."""
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
    """The other side."""

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
    """Does what each line of the input asks for and puts out the result as a line, until the input ends."""
    work = _Work(ENGINES[engine], Path(folder))
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Anserini's indexer puts its log out there.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        name, argument = json.loads(line)
        print(json.dumps(getattr(work, name)(argument)), file=results, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
