"""The rate at which pairs get their two neighbors by caption, as `reimagen-retriever neighbors` finds them.

The neighbors' images are not read; `benchmarks.near_duplicates` measures that. A sample of the pairs is also searched
one by one with Lucene, which must return the same neighbors with the same scores.

    python -m benchmarks.bm25.top_neighbors [CAPTIONS [PAIRS]]
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from benchmarks.bm25.engines import Ours
from benchmarks.bm25.texts import write_captions
from benchmarks.shared.machine import machine, peak_megabytes
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, BM25Index, Relevance
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.neighbors.captions import read_captions
from reimagen_retriever.neighbors.ranking import Ranking

CAPTIONS = 1_000_000
PAIRS = 100_000
SAMPLE = 1_000
BATCH = 1_000
K = 2
ALL = Filters(keep_duplicates=True)


def neighbors(hits: list[Hit], number: int) -> list[tuple[str, float]]:
    """Return the first hits other than the pair itself, with their scores."""
    return [(hit.pair.id, hit.score) for hit in hits if hit.pair.id != f"{number:09d}"][:K]


def measure(index: BM25Index, ranking: Ranking, texts: list[str], preparation: float, captions: int) -> None:
    """Print the rate of plain BM25 and of the default relevance; exit if a single search returns other neighbors."""
    relevances: tuple[Relevance, ...] = ("any", DEFAULT_RELEVANCE)
    for relevance in relevances:
        found: list[list[tuple[str, float]]] = []
        started, processor = time.perf_counter(), time.process_time()
        for first in range(0, len(texts), BATCH):
            hits = ranking.search(texts[first : first + BATCH], K + 1, relevance)
            found += [neighbors(its_hits, number) for number, its_hits in enumerate(hits, first)]
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        rate = len(texts) / seconds
        print(
            f"relevance {relevance}: {rate:,.0f} pairs/s on {os.cpu_count()} cores, "
            f"{captions / (captions / rate + preparation):,.0f} with the preparation for all of them; "
            f"a pair took {processor / len(texts) * 1e3:.2f} ms of a core's time",
            flush=True,
        )
        step = max(len(texts) // SAMPLE, 1)
        for number in range(0, len(texts), step):
            if neighbors(index.search(texts[number], K + 1, 0.0, relevance, ALL), number) != found[number]:
                sys.exit(f"pair {number} has other neighbors, or scores, when it is searched for alone")
        compared = len(range(0, len(texts), step))
        print(f"    {compared:,} of them searched for one by one: the same neighbors, the same scores", flush=True)


def main(captions: int, pairs: int) -> None:
    """Measure, and print the rates."""
    print(f"Top-{K} neighbors of pairs of {captions:,}, batches of {BATCH:,}; {machine()}")
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(temporary)
        write_captions(folder / "captions.txt", captions)
        # In a separate process, whose memory is not counted.
        building = get_context("spawn").Process(target=Ours.build, args=(folder / "captions.txt", folder / "index"))
        building.start()
        building.join()
        with (folder / "captions.txt").open() as lines:
            texts = [line.rstrip("\n") for line in islice(lines, pairs)]
        index = BM25Index(folder / "index")
        documents = index.in_order()
        before = peak_megabytes()
        started, processor = time.perf_counter(), time.process_time()
        ranking = Ranking(read_captions(index, documents), index, pool)
        ranking.search(texts[:8], K + 1, "any")  # compiles
        preparation, processor = time.perf_counter() - started, time.process_time() - processor
        print(
            f"preparation: {preparation:.1f} s, {processor:.1f} of a core's time; "
            f"{peak_megabytes():,.0f} MiB at most, {before:,.0f} before it",
            flush=True,
        )
        measure(index, ranking, texts, preparation, captions)
        index.close()


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [CAPTIONS, PAIRS][len(arguments) :]))
