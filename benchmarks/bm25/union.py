"""A union of four bases compared with one base of all their pairs: time to open, latency and memory.

python -m benchmarks.bm25.union [CAPTIONS]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bm25.engines import ENGINES, PARTS, K, United
from benchmarks.bm25.texts import queries, write_captions
from benchmarks.bm25.worker import Worker
from benchmarks.shared.machine import machine

CAPTIONS = 1_000_000
QUERIES = 5_000
WARM_UP = 1_000
OPENED = 7
ROWS = {"one base": "ours", f"{PARTS} together": "united"}


def main(captions: int) -> None:
    """Build both, open each in new processes in turns, search both in turns, and print a table.

    Raises:
        RuntimeError: they do not return the same results.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_captions(folder / "captions.txt", captions)
        for engine in ROWS.values():
            with Worker(engine, folder / engine) as worker:
                worker.build(folder / "captions.txt")
        opened: dict[str, list[float]] = {engine: [] for engine in ROWS.values()}
        memory = {}
        for _ in range(OPENED):
            for engine in ROWS.values():
                with Worker(engine, folder / engine) as worker:
                    opened[engine].append(worker.open())
                    worker.search(queries(WARM_UP, seed=0))
                    memory[engine] = worker.peak_megabytes
        taken = _taken(folder)
        print(f"{captions:,} captions, k = {K}, {QUERIES:,} queries; {machine()}")
        print(f"{'':12}{'open s':>9}{'p50 ms':>9}{'p95 ms':>9}{'MiB':>8}")
        for title, engine in ROWS.items():
            p50, p95 = statistics.median(taken[engine]), statistics.quantiles(taken[engine], n=20)[-1]
            print(f"{title:12}{statistics.median(opened[engine]):9.2f}{p50:9.2f}{p95:9.2f}{memory[engine]:8,.0f}")
        print("open: Java, the index and a first query; p50, p95: processor time of the thread that asks")
        print(f"all answers are equal, scores too; the ids of all parts compared in {_compared(folder):.1f} s")


def _taken(folder: Path) -> dict[str, list[float]]:
    """Return the milliseconds of processor time of each query, for each engine, in one process in turns."""
    engines = {engine: ENGINES[engine](folder / engine) for engine in ROWS.values()}
    for query in queries(WARM_UP, seed=0):
        for engine in engines.values():
            engine.search(query)
    taken: dict[str, list[float]] = {engine: [] for engine in engines}
    for query in queries(QUERIES, seed=1):
        rankings = []
        for name, engine in engines.items():
            started = time.thread_time()
            found = engine.search(query)
            taken[name].append((time.thread_time() - started) * 1e3)
            rankings.append(engine.ranking(found))
        if rankings[0] != rankings[1]:
            raise RuntimeError(f"a union returns other captions or scores than one base for {query!r}")
    return taken


def _compared(folder: Path) -> float:
    united = United(folder / "united").index
    started = time.perf_counter()
    if united.shared_id() is not None:
        raise RuntimeError("two captions have the same number")
    return time.perf_counter() - started


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else CAPTIONS)
