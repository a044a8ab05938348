"""The cost of detecting near-duplicates in a build and in a live add, by the number of earlier images.

    python -m benchmarks.duplicates

The images are made up: fields of low frequencies whose brightness and contrast vary as much as those of photographs. A
live add searches the fingerprints that the build stored on disk, without loading them. Then the rate of a build is
measured, with files of 256 pixels: decoding, checking, fingerprinting, comparing, and writing into shards.
"""

import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.shared.machine import machine, peak_megabytes
from reimagen_retriever.dedup.duplicates import DuplicateFinder
from reimagen_retriever.dedup.fingerprint_index import AddedFingerprints, FingerprintWriter, KeptFingerprints
from reimagen_retriever.ingest.checking import checked
from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.shards import ShardWriter

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FOUND = 1_000
IMAGES = 1_500


def fingerprints(random: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Return random fingerprints, (count, 192)."""
    frequencies = np.arange(8)
    waves = np.cos(np.pi * np.outer(frequencies + 0.5, frequencies) / 8)
    size = 1 / np.maximum(np.hypot(frequencies[:, None], frequencies), 1)
    light = random.normal(size=(count, 8, 8, 1)) * size[..., None]
    color = random.normal(size=(count, 8, 8, 3)) * size[..., None] / 4
    contrast = np.exp(random.normal(3.3, 0.6, (count, 1, 1, 1)))
    fields = np.einsum("iu,nuvc,jv->nijc", waves, (light + color) * contrast, waves, optimize=True)
    fields += random.normal(125, 50, (count, 1, 1, 1))
    return np.asarray(np.clip(fields, 0, 255).astype(np.uint8).reshape(count, 192))


def pairs(random: np.random.Generator) -> Iterator[SourcePair | Rejected]:
    """Yield pairs with noisy images of 256 pixels, about 12 kB each."""
    for number in range(IMAGES):
        cells = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        blots = np.asarray(cells.resize((256, 256), Image.Resampling.BICUBIC)) + random.normal(0, 8, (256, 256, 3))
        file = io.BytesIO()
        Image.fromarray(np.clip(blots, 0, 255).astype(np.uint8)).save(file, "JPEG")
        yield SourcePair("here", f"{number}", f"text {number}", file.getvalue())


def added(size: int, rows: Sequence[bytes]) -> float:
    """Return the seconds of CPU time to compare one row with the fingerprints of a build of `size` images."""
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        writer = FingerprintWriter(Path(folder), size)
        for start in range(0, size, 10_000):
            for number, row in enumerate(fingerprints(random, min(size - start, 10_000)), start):
                writer.add(f"{number}", number, row.tobytes())
        writer.finish()
        used = time.process_time()
        built = KeptFingerprints(AddedFingerprints(Path(folder)), built=True)
        for row in rows:
            for _ in built.near(row):
                pass
        return (time.process_time() - used) / len(rows)


def main() -> None:
    """Measure, and print the results."""
    print(machine())
    print("\n| images before | µs of CPU time an image, built | added | peak memory, MB |\n|---|---|---|---|")
    random = np.random.default_rng(0)
    finder = DuplicateFinder()
    count = 0
    for size in SIZES:
        while count < size:
            for row in fingerprints(random, min(size - count, 10_000)):
                finder.remember(f"{count}", row.tobytes())
                count += 1
        rows = [row.tobytes() for row in fingerprints(random, FOUND)]
        used = time.process_time()
        for row in rows:
            finder.find("asked", row)
        taken = (time.process_time() - used) / FOUND
        count += FOUND
        print(f"| {size:,} | {taken * 1e6:.0f} | {added(size, rows) * 1e6:.0f} | {peak_megabytes():,.0f} |", flush=True)
    files = list(pairs(random))
    with tempfile.TemporaryDirectory() as folder, ShardWriter(Path(folder, "shards")) as writer:
        finder = DuplicateFinder()
        started, used = time.perf_counter(), time.process_time()
        for entry in checked(files, SourceFilters()):
            assert not isinstance(entry, Rejected)
            finder.find(entry[0].id, entry[1].fingerprint)
            writer.add(*entry)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    print(f"\nshards: {IMAGES / seconds:,.0f} images a second, {IMAGES / cpu:,.0f} a second of CPU time")


if __name__ == "__main__":
    main()
