"""How many pairs a second get their two neighbors, as `reimagen-retriever neighbors` finds them: by their captions.

The neighbors' pictures are not looked at, which is another measurement (`benchmarks.near_duplicates`). A sample of the
pairs is searched one by one besides, and must find the same.

    python -m benchmarks.bm25.top_neighbors [CAPTIONS [PAIRS]]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bm25.engines import Ours
from benchmarks.bm25.texts import write_captions
from benchmarks.shared.machine import machine
from reimagen_retriever.index.bm25 import BM25Index

CAPTIONS = 1_000_000
PAIRS = 100_000
SAMPLE = 1_000
BATCH = 1_000
K = 2


def main(captions: int, pairs: int) -> None:
    """Measures, and prints the rate."""
    print(f"Top-{K} neighbors of pairs of {captions:,}, batches of {BATCH:,}; {machine()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_captions(folder / "captions.txt", captions)
        Ours.build(folder / "captions.txt", folder / "index")
        texts = (folder / "captions.txt").read_text().splitlines()[: pairs + BATCH]
        index = BM25Index(folder / "index")
        found: list[list[str]] = []
        for first in range(0, len(texts), BATCH):
            if first == BATCH:  # The first batch has warmed up.
                started, processor = time.perf_counter(), time.process_time()
            found += [
                [hit.pair.id for hit in hits if hit.pair.id != f"{number:09d}"][:K]
                for number, hits in enumerate(index.search_batch(texts[first : first + BATCH], K + 1, 0.0), first)
            ]
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        rate, cores = (len(texts) - BATCH) / seconds, os.cpu_count()
        each = processor / (len(texts) - BATCH) * 1e3
        print(f"{rate:,.0f} pairs/s on {cores} cores; a pair took {each:.2f} ms of a core's time")
        step = max(len(texts) // SAMPLE, 1)
        for number in range(0, len(texts), step):
            one = [hit.pair.id for hit in index.search(texts[number], K + 1, 0.0, 0.0)]
            if [identifier for identifier in one if identifier != f"{number:09d}"][:K] != found[number]:
                sys.exit(f"pair {number} has other neighbors when it is searched for alone")
        print(f"{len(range(0, len(texts), step)):,} of them searched for one by one: the same neighbors")
        index.close()


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [CAPTIONS, PAIRS][len(arguments) :]))
