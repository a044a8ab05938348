"""BM25 compared with pyserini, bm25s and tantivy: the same captions and queries, k = 10, in one run and in turns.

Each engine runs in a separate process. `make bench-retrieval` installs the packages and runs this script.

    python -m benchmarks.bm25.peers [CAPTIONS | real]

CAPTIONS is a number of captions with made-up words (see texts.py), `real` stands for dictionaries (see real_texts.py).
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bm25 import real_texts, texts
from benchmarks.bm25.engines import PEERS, K, Ranking
from benchmarks.bm25.worker import Worker
from benchmarks.shared.machine import machine

CAPTIONS = 1_000_000
QUERIES = 2_000
WARM_UP = 1_000
TURN = 100
"""Number of queries that an engine answers before the next one has its turn."""
COMPARED = 300
SCORES_DIFFER = 1e-4
"""Largest accepted difference between our scores and those of bm25s."""
Queries = Callable[[int, int], list[str]]
"""Returns so many queries, by a seed."""
BUILT_BY = {name: "ours" if name == "bare Lucene" else name for name in PEERS}


@dataclass
class Figures:
    """The measurements of one engine."""

    build_seconds: float = 0.0
    build_megabytes: float = 0.0
    disk_megabytes: float = 0.0
    open_seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    """Milliseconds of each query on one thread."""
    on_two_threads: list[float] = field(default_factory=list)
    """Seconds of each turn on two threads."""
    megabytes: float = 0.0


def build(captions: Path, folder: Path) -> dict[str, Figures]:
    """Build the indexes one after the other."""
    figures = {name: Figures() for name in PEERS}
    for name in dict.fromkeys(BUILT_BY.values()):
        its, index = figures[name], folder / name
        with Worker(name, index) as worker:
            its.build_seconds = worker.build(captions)
            its.build_megabytes = worker.peak_megabytes
        its.disk_megabytes = sum(file.stat().st_size for file in index.rglob("*") if file.is_file()) / 2**20
    return figures


def measure(folder: Path, figures: dict[str, Figures], queries: Queries) -> tuple[dict[str, list[Ranking]], float]:
    """Measure the engines in turns.

    Returns:
        What each engine found for the same queries, and the queries per second of two processes of ours.
    """
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, folder / BUILT_BY[name])) for name in PEERS}
        for name, worker in workers.items():
            figures[name].open_seconds = worker.open()
            worker.search(queries(WARM_UP, 0))
            worker.search_on_two_threads(queries(TURN, 0))
        for turn in _turns(queries, 1):
            for name, worker in workers.items():
                figures[name].milliseconds += worker.search(turn)
        for name, worker in workers.items():
            figures[name].megabytes = worker.peak_megabytes
        for turn in _turns(queries, 2):
            for name, worker in workers.items():
                figures[name].on_two_threads.append(worker.search_on_two_threads(turn))
        rankings = {name: worker.rankings(queries(COMPARED, 3)) for name, worker in workers.items()}
    with Worker("ours", folder / "ours") as one, Worker("ours", folder / "ours") as other:
        for worker in (one, other):
            worker.open()
            # Warmed up as long as the other workers; otherwise Java's compiler would take half of the cores.
            worker.begin_search(queries(WARM_UP + QUERIES, 0))
        one.end_search()
        other.end_search()
        asked = queries(QUERIES, 4)
        started = time.perf_counter()
        for worker, half in ((one, asked[::2]), (other, asked[1::2])):
            worker.begin_search(half)
        one.end_search()
        other.end_search()
        return rankings, QUERIES / (time.perf_counter() - started)


def farthest_scores(some: Sequence[Ranking], others: Sequence[Ranking]) -> float:
    """Return the largest difference of two engines' scores at the same rank.

    Raises:
        ValueError: one engine finds more than the other.
    """
    return max(
        abs(one - another)
        for ranking, other in zip(some, others, strict=True)
        for (_, one), (_, another) in zip(ranking, other, strict=True)
    )


def main(captions: str) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if captions == "real":
            count, queries = real_texts.write_captions(folder / "captions.txt"), real_texts.queries
        else:
            count, queries = int(captions), texts.queries
            texts.write_captions(folder / "captions.txt", count)
        print(f"BM25 over {count:,} captions, k = {K}, {QUERIES:,} queries in turns of {TURN}; {machine()}")
        figures = build(folder / "captions.txt", folder)
        rankings, in_two_processes = measure(folder, figures, queries)
    print(f"{'':16}{'ms':>7}{'':7}{'queries/s, threads':>20}{'MiB,':>10}{'open':>8}{'build':>9}{'MiB,':>10}{'disk':>8}")
    print(
        f"{'':16}{'p50':>7}{'p95':>7}{'1':>10}{'2':>10}{'serving':>10}{'s':>8}{'s':>9}{'building':>10}{'MiB':>8}",
    )
    for name, its in figures.items():
        one, two = 1e3 / statistics.mean(its.milliseconds), QUERIES / sum(its.on_two_threads)
        p50, p95 = statistics.median(its.milliseconds), _p95(its.milliseconds)
        line = f"{name:16}{p50:7.2f}{p95:7.2f}{one:10,.0f}{two:10,.0f}"
        line += f"{its.megabytes:10,.0f}{its.open_seconds:8.1f}"
        if its.build_seconds:
            line += f"{its.build_seconds:9.1f}{its.build_megabytes:10,.0f}{its.disk_megabytes:8,.0f}"
        print(line)
    print(f"ours in two processes: {in_two_processes:,.0f} queries/s; load at the end {machine().rpartition(' ')[2]}")
    for quantile, of_engine in (("p50", statistics.median), ("p95", _p95)):
        taken = {name: of_engine(its.milliseconds) for name, its in figures.items()}
        ratios = ", ".join(f"{name} {taken['ours'] / taken[name]:.2f}" for name in list(taken)[2:])
        print(f"{quantile} of ours over theirs: {ratios}")
    differ = farthest_scores(rankings["ours"], rankings["bm25s, numba"])
    print(f"scores of ours and of bm25s differ by {differ:.1e} at most, over {COMPARED} queries")
    if differ > SCORES_DIFFER:
        sys.exit(f"that is more than {SCORES_DIFFER}")


def _p95(milliseconds: Sequence[float]) -> float:
    return statistics.quantiles(milliseconds, n=20)[-1]


def _turns(queries: Queries, seed: int) -> Iterator[list[str]]:
    asked = queries(QUERIES, seed)
    for first in range(0, QUERIES, TURN):
        yield asked[first : first + TURN]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(CAPTIONS))
