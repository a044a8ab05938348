"""The growth of our BM25 with the base: latency, memory, disk, and time until ready, for captions only.

python -m benchmarks.bm25.growth [CAPTIONS ...]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bm25.engines import K
from benchmarks.bm25.texts import queries, write_captions
from benchmarks.bm25.worker import Worker
from benchmarks.shared.machine import machine

SIZES = (1_000_000, 2_000_000, 4_000_000, 10_000_000)
QUERIES = 2_000
WARM_UP = 1_000


def line(captions: int, folder: Path) -> str:
    """Build an index, open it in a new process, and search it; return a line of the table."""
    write_captions(folder / "captions.txt", captions)
    with Worker("ours", folder / "index") as worker:
        build_seconds = worker.build(folder / "captions.txt")
    started = time.perf_counter()
    with Worker("ours", folder / "index") as worker:
        opened = worker.open()
        ready = time.perf_counter() - started
        worker.search(queries(WARM_UP, seed=0))
        taken = worker.search(queries(QUERIES, seed=1))
        memory = worker.peak_megabytes
    disk = sum(file.stat().st_size for file in (folder / "index").iterdir()) / 2**20
    p50, p95 = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    return (
        f"{captions:12,}{p50:8.2f}{p95:8.2f}{opened:9.2f}{ready:9.2f}{memory:10,.0f}{build_seconds:10.1f}{disk:9,.0f}"
    )


def main(sizes: tuple[int, ...]) -> None:
    """Measure, and print the table."""
    print(f"BM25 as the base grows, k = {K}, {QUERIES:,} queries; {machine()}")
    columns = ("captions", 12), ("p50 ms", 8), ("p95 ms", 8), ("open s", 9), ("ready s", 9), ("MiB", 10)
    print("".join(f"{name:>{width}}" for name, width in (*columns, ("build s", 10), ("disk MiB", 9))))
    for captions in sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(line(captions, Path(folder)), flush=True)
    print("open: Java, the index and a first query; ready: with the start of Python and its libraries")


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
