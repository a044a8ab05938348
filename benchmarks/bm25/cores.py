"""The use of two cores by one process: by one query of a large index, by two callers, and by a batch; beside peers.

The fastest of several turns counts, because other work on the machine takes cores away. Two processes with one caller
each show what it leaves for the same searches. A query's processor time on the thread of its caller does not depend on
other work. A batch is one call with all queries, beside Pyserini's `batch_search` with as many threads.

    python -m benchmarks.bm25.cores [CAPTIONS]
"""

import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.bm25.engines import BareLucene, K, Ours, Pyserini
from benchmarks.bm25.texts import queries, write_captions
from benchmarks.bm25.worker import Worker
from benchmarks.shared.machine import machine
from reimagen_retriever.index import lucene
from reimagen_retriever.index.bm25 import BM25Index, BM25Search

CAPTIONS = 1_000_000
SMALLEST_PART = 500_000
QUERIES = 120
WARM_UP = 1_500
TURNS = 60
BATCH = 6
Search = Callable[[str], object]


def found(index: BM25Index, query: str) -> object:
    """Search as the service does."""
    return index.search(query, K, 0.0, "any")


def opened(folder: Path, cores: int) -> BM25Index:
    """Open the index for searches that use at most that many cores, and warm it up."""
    lucene._CORES = cores
    # By default only a larger index than this one is divided, so that two callers here do not compete with parts.
    lucene._SMALLEST_PART = SMALLEST_PART
    index = BM25Index(folder)
    for query in queries(WARM_UP, seed=0):
        found(index, query)
    return index


def one_query(search: Search, clock: Callable[[], float], asked: Sequence[str]) -> list[float]:
    """Return the time of each query in ms."""
    taken: list[float] = []
    for query in asked:
        started = clock()
        search(query)
        taken.append((clock() - started) * 1e3)
    return taken


def p50(turns: Sequence[Sequence[float]]) -> float:
    """Return the median over the queries of the fastest turn of each."""
    fastest: list[float] = [min(of_query) for of_query in zip(*turns, strict=True)]
    return statistics.median(fastest)


def in_threads(pool: ThreadPoolExecutor, search: Search, parts: Sequence[Sequence[str]]) -> None:
    """Search with one caller for each part, in threads of this process."""

    def of_one(part: Sequence[str]) -> None:
        for query in part:
            search(query)

    list(pool.map(of_one, parts))


def in_processes(workers: Sequence[Worker], parts: Sequence[Sequence[str]]) -> None:
    """Search with one caller for each part, in a process each."""
    for worker, part in zip(workers, parts, strict=False):
        worker.begin_search(part)
    for worker, _ in zip(workers, parts, strict=False):
        worker.end_search()


def per_second(search: Callable[[Sequence[Sequence[str]]], None], asked: Sequence[str]) -> tuple[float, float]:
    """Return the queries per second of one caller and of two, in the fastest turn of each batch."""
    seconds: dict[int, float] = {1: 0.0, 2: 0.0}
    for start in range(0, len(asked), BATCH):
        fastest = {1: math.inf, 2: math.inf}
        for _ in range(TURNS):
            for callers in fastest:
                parts = [asked[start + first : start + BATCH : callers] for first in range(callers)]
                started = time.perf_counter()
                search(parts)
                fastest[callers] = min(fastest[callers], time.perf_counter() - started)
        for callers, its in fastest.items():
            seconds[callers] += its
    return len(asked) / seconds[1], len(asked) / seconds[2]


def batches_per_second(indexes: Mapping[int, BM25Index], pyserini: Pyserini, asked: Sequence[str]) -> None:
    """Print the queries per second of both engines' batches on one core and on two, in the fastest turn."""
    searches = [BM25Search(query, K, 0.0, "any") for query in asked]
    batches: dict[tuple[str, int], Callable[[], object]] = {
        (name, cores): call
        for cores, index in indexes.items()
        for name, call in (
            ("ours", partial(index.search_all, searches)),
            ("pyserini", partial(pyserini.batch, asked, cores)),
        )
    }
    fastest = dict.fromkeys(batches, math.inf)
    for _ in range(TURNS):
        for key, batch in batches.items():
            started = time.perf_counter()
            batch()
            fastest[key] = min(fastest[key], time.perf_counter() - started)
    rates = {key: len(asked) / seconds for key, seconds in fastest.items()}
    for name in ("ours", "pyserini"):
        one, two = rates[name, 1], rates[name, 2]
        print(f"queries/s of a batch, {name}: one core {one:,.0f}, two {two:,.0f}, {two / one:.2f} of it")
    print(f"ours over pyserini on two cores: {rates['ours', 2] / rates['pyserini', 2]:.2f}", flush=True)


def measure(folder: Path, pyserini: Pyserini) -> None:
    """Measure the index in a folder, and print the figures."""
    asked = queries(QUERIES, seed=1)
    indexes = {cores: opened(folder, cores) for cores in (1, 2)}
    search = {cores: partial(found, index) for cores, index in indexes.items()}
    clocks = {"elapsed": time.perf_counter, "processor time of the caller's thread": time.thread_time}
    for name, clock in clocks.items():
        turns: dict[int, list[list[float]]] = {1: [], 2: []}
        for _ in range(TURNS):
            for cores, taken in turns.items():
                taken.append(one_query(search[cores], clock, asked))
        one, two = (p50(turns[cores]) for cores in (1, 2))
        print(f"p50 ms of one query, {name}: one core {one:.2f}, two {two:.2f}, {two / one:.2f} of it", flush=True)
    bare = BareLucene(folder).search
    theirs, ours = [], []
    for _ in range(TURNS):
        theirs.append(one_query(bare, time.perf_counter, asked))
        ours.append(one_query(search[1], time.perf_counter, asked))
    one, two = p50(theirs), p50(ours)
    print(f"p50 ms of one query, elapsed: bare Lucene {one:.2f}, ours on one core {two:.2f}, {two / one:.2f} of it")
    with ThreadPoolExecutor(2) as pool:
        one, two = per_second(partial(in_threads, pool, search[1]), asked)
    print(f"queries/s: one caller {one:,.0f}, two in one process {two:,.0f}, {two / one:.2f} of it", flush=True)
    batches_per_second(indexes, pyserini, asked)
    with Worker("ours", folder) as first, Worker("ours", folder) as second:
        for worker in (first, second):
            worker.open()
            worker.search(queries(WARM_UP, seed=0))
        one, two = per_second(partial(in_processes, (first, second)), asked)
    print(f"queries/s: one caller {one:,.0f}, two in two processes {two:,.0f}, {two / one:.2f} of it")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def main(captions: int) -> None:
    """Build the index, and measure."""
    print(f"Two cores, {captions:,} captions, k = {K}, {QUERIES} queries, the fastest of {TURNS} turns; {machine()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_captions(folder / "captions.txt", captions)
        Ours.build(folder / "captions.txt", folder / "index")
        Pyserini.build(folder / "captions.txt", folder / "pyserini")
        measure(folder / "index", Pyserini(folder / "pyserini"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CAPTIONS)
