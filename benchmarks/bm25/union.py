"""A union of four bases beside one base of all their pairs: when each answers, how soon, and in how much memory.

python -m benchmarks.bm25.union [CAPTIONS]
"""

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bm25.engines import PARTS, K
from benchmarks.bm25.texts import queries, write_captions
from benchmarks.bm25.worker import Worker
from benchmarks.shared.machine import machine
from reimagen_retriever.index.bm25 import BM25Index

CAPTIONS = 1_000_000
ROUNDS = 10
QUERIES = 500
OPENED = 5
COMPARED = 200
ENGINES = {"one base": "ours", f"{PARTS} together": "united"}


def main(captions: int) -> None:
    """Builds both, opens each in new processes in turn, lets them take turns at the same queries, and prints a table.

    Raises:
        RuntimeError: they do not find the same.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_captions(folder / "captions.txt", captions)
        for engine in ENGINES.values():
            with Worker(engine, folder / engine) as worker:
                worker.build(folder / "captions.txt")
        opened: dict[str, list[float]] = {engine: [] for engine in ENGINES.values()}
        for _ in range(OPENED):
            for engine in ENGINES.values():
                with Worker(engine, folder / engine) as worker:
                    opened[engine].append(worker.open())
        taken: dict[str, list[float]] = {engine: [] for engine in ENGINES.values()}
        with ExitStack() as stack:
            workers = {engine: stack.enter_context(Worker(engine, folder / engine)) for engine in ENGINES.values()}
            for worker in workers.values():
                worker.open()
                worker.search(queries(1_000, seed=0))
            for seed in range(1, ROUNDS + 1):
                for engine, worker in workers.items():
                    taken[engine] += worker.search(queries(QUERIES, seed))
            memory = {engine: worker.peak_megabytes for engine, worker in workers.items()}
            one, together = (worker.rankings(queries(COMPARED, seed=0)) for worker in workers.values())
        if one != together:
            raise RuntimeError("a union finds other captions than one base, or scores them otherwise")
        print(f"{captions:,} captions, k = {K}, {ROUNDS * QUERIES:,} queries; {machine()}")
        print(f"{'':12}{'open s':>9}{'p50 ms':>9}{'p95 ms':>9}{'MiB':>8}")
        for title, engine in ENGINES.items():
            p50, p95 = statistics.median(taken[engine]), statistics.quantiles(taken[engine], n=20)[-1]
            print(f"{title:12}{statistics.median(opened[engine]):9.2f}{p50:9.2f}{p95:9.2f}{memory[engine]:8,.0f}")
        first, *others = (BM25Index(folder / "united" / f"{part}") for part in range(PARTS))
        united = first.united(others)
        started = time.perf_counter()
        if united.shared_id() is not None:
            raise RuntimeError("two captions have the same number")
        print(f"ids of all parts compared in {time.perf_counter() - started:.1f} s; {COMPARED} answers are equal")
        united.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:])) if sys.argv[1:] else main(CAPTIONS)
