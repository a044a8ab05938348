"""Training shards from the demonstration's knowledge base: near-duplicates among its images, and the speed.

    python -m benchmarks.near_duplicates

Every image of the base is a different drawing, so that any two that count as near-duplicates are an error.
"""

import io
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks.shared.machine import machine
from reimagen_demo.stack.knowledge_base import build
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE
from reimagen_retriever.knowledge_base.fingerprint import fingerprint, near_duplicates
from reimagen_retriever.neighbors.captions import read_captions
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.ranking import Ranking
from reimagen_retriever.neighbors.shards import Options

SAMPLED = 200


def encoded(image: Image.Image, kind: str, quality: int = 100) -> bytes:
    """Return the image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def resized(image: Image.Image, side: int) -> Image.Image:
    """Return the image resized to a square, without keeping its aspect ratio."""
    return image.resize((side, side), Image.Resampling.LANCZOS)


def middle(image: Image.Image, share: float) -> Image.Image:
    """Return the image without a share of its width at each edge."""
    cut = round(image.width * share)
    return image.crop((cut, cut, image.width - cut, image.height - cut))


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG, quality 75": lambda image: encoded(image, "JPEG", 75),
    "JPEG, quality 50": lambda image: encoded(image, "JPEG", 50),
    "JPEG, quality 25": lambda image: encoded(image, "JPEG", 25),
    "WebP, quality 60": lambda image: encoded(image, "WEBP", 60),
    "100 pixels": lambda image: encoded(resized(image, 100), "PNG"),
    "512 pixels": lambda image: encoded(resized(image, 512), "PNG"),
    "128 pixels, JPEG, quality 50": lambda image: encoded(resized(image, 128), "JPEG", 50),
    "64 pixels, JPEG, quality 50": lambda image: encoded(resized(image, 64), "JPEG", 50),
    "cut by 1 % at each edge": lambda image: encoded(middle(image, 0.01), "PNG"),
    "cut by 3 % at each edge": lambda image: encoded(middle(image, 0.03), "PNG"),
    "10 % brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.1), "PNG"),
}


def of_change(files: list[bytes], prints: NDArray[np.uint8], change: Callable[[Image.Image], bytes]) -> tuple[int, int]:
    """Return how many changed images are near-duplicates of their originals, and of how many other images in total."""
    sampled = random.Random(0).sample(range(len(files)), SAMPLED)  # noqa: S311

    def changed(index: int) -> NDArray[np.uint8]:
        return fingerprint(change(Image.open(io.BytesIO(files[index])).convert("RGB")))

    with ThreadPoolExecutor() as pool:
        near = near_duplicates(np.stack(list(pool.map(changed, sampled))), prints)
    own = int(near[np.arange(SAMPLED), sampled].sum())
    return own, int(near.sum()) - own


def main() -> None:
    """Measure, and print the results."""
    print(machine())
    folder = build(Path("build/demo"))
    base = KnowledgeBase.open(folder)
    pairs = [base.index.pair(document) for document in base.index.in_order()]
    files = [base.images.read(pair) for pair in pairs]
    started, used = time.perf_counter(), time.process_time()
    prints = np.stack([fingerprint(file) for file in files])
    print(f"\nfingerprints: {_rate(len(files), started, used)}")
    with ThreadPoolExecutor() as pool:
        ranking = Ranking(read_captions(base.index, base.index.in_order()), base.index, pool)
        ranking.search(["an image"], 8, DEFAULT_RELEVANCE)  # compiles
        started, used = time.perf_counter(), time.process_time()
        for first in range(0, len(pairs), 64):
            ranking.search([pair.caption for pair in pairs[first : first + 64]], 8, DEFAULT_RELEVANCE)
    print(f"searches in batches of 64: {_rate(len(files), started, used)}")
    base.close()
    near = near_duplicates(prints, prints)
    np.fill_diagonal(near, val=False)
    print(f"\n{len(files):,} images, {len(files) * (len(files) - 1) // 2:,} couples of different ones")
    print(f"near-duplicates among them: {int(near.sum()) // 2}")
    for one, other in np.argwhere(np.triu(near))[:10]:
        print(f"    {pairs[one].id}  {pairs[other].id}")
    print(f"\n| change, of {SAMPLED} images | found | of another image |\n|---|---|---|")
    for name, change in CHANGES.items():
        own, other = of_change(files, prints, change)
        print(f"| {name} | {own / SAMPLED:.1%} | {other} |", flush=True)
    print()
    for size in (None, 64):
        with tempfile.TemporaryDirectory() as out:
            started, used = time.perf_counter(), time.process_time()
            export(folder, Path(out, "shards"), Options(2, DEFAULT_RELEVANCE, size))
            name = "the files" if size is None else f"squares of {size}"
            print(f"export of {name}: {_rate(len(files), started, used)}", flush=True)


def _rate(pairs: int, started: float, used: float) -> str:
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return f"{pairs / seconds:,.0f} pairs a second, {pairs / cpu:,.0f} a second of CPU time"


if __name__ == "__main__":
    main()
