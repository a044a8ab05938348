"""The cost of building and of finding neighbors per pair: in one process, in two, and with a local Ray.

Made-up captions and images of 256 pixels are in WebDataset shards. Pairs per second depend on the machine's other work;
processor time hardly does. It is reported separately for the workers, of which there may be many, and for the process
that was started, which is one. Needs Ray (`pip install 'reimagen-retriever[ray]'`).

    python -m benchmarks.spread [PAIRS]
"""

import io
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from benchmarks.bm25.texts import CAPTION_WORDS, texts
from benchmarks.shared.machine import machine
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.shards import Options

PAIRS = 4_000
SHARDS = 4
OPTIONS = Options(2, DEFAULT_RELEVANCE, 64)


def write_shards(folder: Path, pairs: int) -> Path:
    """Write shards of captions and noisy images of 256 pixels: all in one folder, and each half in another."""
    random = np.random.default_rng(0)
    captions = texts(pairs, CAPTION_WORDS, seed=1)
    for name in ("all", "0", "1"):
        (folder / name).mkdir(parents=True)
    for shard in range(SHARDS):
        path = folder / "all" / f"{shard:05d}.tar"
        with tarfile.open(path, "w") as tar:
            for number in range(pairs // SHARDS):
                cells = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                blots = np.asarray(cells.resize((256, 256), Image.Resampling.BICUBIC))
                noisy = np.clip(blots + random.normal(0, 12, (256, 256, 3)), 0, 255).astype(np.uint8)
                file = io.BytesIO()
                Image.fromarray(noisy).save(file, "JPEG", quality=85)
                note = json.dumps({"url": f"https://example.org/{random.bytes(20).hex()}.jpg"})
                for kind, data in (("jpg", file.getvalue()), ("txt", next(captions).encode()), ("json", note.encode())):
                    member = tarfile.TarInfo(f"{shard:05d}{number:04d}.{kind}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        (folder / str(shard % 2) / path.name).hardlink_to(path)
    return folder


class Apart:
    """A measurement that runs the workers' tasks in this process and counts their time separately."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._workers = 0.0

    def measure(self, run: Callable[[], object]) -> tuple[float, float]:
        """Return the processor seconds of the workers' tasks, and of the rest."""
        used = time.process_time()
        with patch(f"{self._module}.connected", nullcontext), patch(f"{self._module}.spread", self._spread):
            run()
        return self._workers, time.process_time() - used - self._workers

    def _spread(self, work: Callable[[Any, Any], Any], shared: object, items: Sequence[object]) -> Iterator[Any]:
        for item in items:
            used = time.process_time()
            result = work(shared, item)
            self._workers += time.process_time() - used
            yield item, result


def seconds(run: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def build_half(folder: Path, half: str) -> None:
    """Build a base of a half of the shards."""
    build(open_source(folder / half), folder / f"kb-{half}")


def build_halves(folder: Path) -> None:
    """Build both halves, each in a separate process."""
    processes = [get_context("spawn").Process(target=build_half, args=(folder, half)) for half in ("0", "1")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit("a build failed")


def line(work: str, pairs: int, workers: float, alone: float) -> str:
    """Return a line of the table of processor time."""
    return f"{work:<12}{workers / pairs * 1e3:12.2f}{alone / pairs * 1e3:12.3f}{workers / alone:10.0f}"


def main(pairs: int) -> None:
    """Measure, and print two tables."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_shards(Path(temporary), pairs)
        source, kb = folder / "all", folder / "kb"
        size = sum(path.stat().st_size for path in source.iterdir()) / pairs / 1e3
        print(f"{pairs:,} pairs of {size:.0f} kB in {SHARDS} shards; {machine()}")
        build(open_source(folder / "0"), folder / "warm")  # starts Java and warms up its compiler
        built = Apart("reimagen_retriever.ingest.build").measure(lambda: build(open_source(source), kb, ray="here"))
        found = Apart("reimagen_retriever.neighbors.export").measure(
            lambda: export(kb, folder / "apart", OPTIONS, ray="here")
        )
        index = sum(path.stat().st_size for path in kb.glob("data-*/lucene/*")) / pairs
        print(f"the index takes {index:.0f} bytes a pair, with addresses of 64 characters")
        print(f"\n{'ms of a core':<12}{'worker':>12}{'alone':>12}{'workers':>10}")
        print(line("build", pairs, *built))
        print(line("neighbors", pairs, *found))
        print("workers: as many as one process that is started keeps busy")
        print("\npairs/s, start-up included")
        runs: dict[str, Callable[[], object]] = {
            "build, one process": lambda: build(open_source(source), folder / "kb-one"),
            "build, two processes": lambda: build_halves(folder),
            "build, Ray": lambda: build(open_source(source), folder / "kb-ray", ray="local"),
            "neighbors, one process": lambda: export(kb, folder / "one", OPTIONS),
            "neighbors, Ray": lambda: export(kb, folder / "ray", OPTIONS, ray="local"),
        }
        for name, run in runs.items():
            print(f"{name:<24}{pairs / seconds(run):8,.0f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
