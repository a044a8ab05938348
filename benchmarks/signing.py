"""The time and size that a signed manifest adds to an image file of 1024 pixels, and the time to verify it."""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared.machine import machine
from reimagen_generator.generation import provenance
from reimagen_generator.generation.certificates import local_identity
from reimagen_generator.generation.images import MEDIA_TYPES
from reimagen_generator.generation.provenance import Provenance, Source
from reimagen_generator.generation.request import OutputFormat
from reimagen_generator.generation.retriever_client import Neighbor
from reimagen_generator.generation.signing import Signer
from reimagen_generator.generation.verification import Verifier

RUNS = 9
SIDE = 1024
FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call; the first call, which makes thumbnails, does not count."""
    taken = []
    for _ in range(1 + RUNS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken[1:])


def smooth(seed: int) -> np.ndarray:
    """Return an image of soft shapes, which is compressed about as well as a drawing."""
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def neighbor(seed: int) -> Neighbor:
    """Return a neighbor of 1024 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(smooth(seed)).save(buffer, "JPEG")
    return Neighbor(buffer.getvalue(), "a red panda", id=str(seed), source="https://example.org/", license="MIT")


def main() -> None:
    """Measure, and print the table."""
    print(f"{machine()}; images of {SIDE} pixels, medians of {RUNS}, in milliseconds")
    print(f"{'':6}{'neighbors':>10}{'encode':>9}{'sign':>8}{'verify':>8}{'file KiB':>10}{'added KiB':>11}", flush=True)
    pixels, verifier = smooth(0), Verifier()
    with tempfile.TemporaryDirectory() as folder:
        signer = Signer(local_identity(Path(folder)))
    for output_format in FORMATS:
        for count in (0, 2, 16):
            neighbors = [neighbor(1 + index) for index in range(count)]
            sources = tuple(Source(one.id, one.caption, one.source, one.license) for one in neighbors)
            origin = Provenance("a red panda in the snow", 7, SIDE, "demo", sources, created=1_700_000_000)
            file = provenance.encode(pixels, output_format, origin)
            media_type = MEDIA_TYPES[output_format]
            signed = signer.sign(file, media_type, origin, neighbors)
            encode = milliseconds(partial(provenance.encode, pixels, output_format, origin))
            sign = milliseconds(partial(signer.sign, file, media_type, origin, neighbors))
            verify = milliseconds(partial(verifier.verify, signed))
            print(
                f"{output_format:6}{count:>10}{encode:>9.1f}{sign:>8.1f}{verify:>8.1f}{len(file) / 1024:>10.0f}"
                f"{(len(signed) - len(file)) / 1024:>11.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
