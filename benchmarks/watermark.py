"""The watermark on the demonstration's images: how visible it is, what it survives, and whether others have it.

The demonstration's services draw the images without a mark into build/demo/watermark. Each is marked, and then changed
in each way of TRANSFORMS. Unmarked images are changed in the same ways, and searched too.

    python -m benchmarks.watermark
"""

import io
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.shared.machine import machine
from reimagen_demo.art.entities import entities
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack.client import draw
from reimagen_demo.stack.running import running
from reimagen_generator.generation.image_log import SIMILAR_BITS, fingerprint
from reimagen_generator.watermark.detection import Mark, detect
from reimagen_generator.watermark.embedding import embed
from reimagen_generator.watermark.luminance import luminance

FOLDER: Final = Path("build/demo/watermark")
IMAGES: Final = {256: 40, 64: 40, 1024: 16}
"""Number of images of each size."""

Transform = Callable[[Image.Image], Image.Image]


def jpeg(image: Image.Image) -> Image.Image:
    """Return the image as JPEG of quality 85, with reduced colors as most programs write it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return Image.open(buffer).convert("RGB")


def half(image: Image.Image) -> Image.Image:
    """Return the image at half of its width and height."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def crop(image: Image.Image, share: float) -> Image.Image:
    """Return the image without a share of its width and height at each of its four edges."""
    across, down = round(share * image.width), round(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


TRANSFORMS: Final[Mapping[str, Transform]] = {
    "unchanged": lambda image: image,
    "JPEG 85": jpeg,
    "half size": half,
    "crop to 90 % of each side": lambda image: crop(image, 0.05),
    "crop to 80 % of each side": lambda image: crop(image, 0.1),
    "crop to a tenth of the area": lambda image: crop(image, (1 - math.sqrt(0.1)) / 2),
    "half size, JPEG 85": lambda image: jpeg(half(image)),
    "crop to 80 %, half size, JPEG 85": lambda image: jpeg(half(crop(image, 0.1))),
}


def drawn() -> dict[int, list[np.ndarray]]:
    """Return unmarked images of each size, and draw those that are missing."""
    chosen, known = random.Random(0), entities()  # noqa: S311
    wanted = {
        (size, seed): f"{chosen.choice(known).phrase} {chosen.choice(SCENES).phrase}"
        for size, count in IMAGES.items()
        for seed in range(count)
    }
    missing = {one: prompt for one, prompt in wanted.items() if not file(*one).exists()}
    if missing:
        FOLDER.mkdir(parents=True, exist_ok=True)
        os.environ["REIMAGEN_GENERATOR_WATERMARK"] = "false"
        with running(Path("build/demo")) as system:
            for (size, seed), prompt in missing.items():
                draw(system.generator.url, prompt, size, seed).image.save(file(size, seed))
    images: dict[int, list[np.ndarray]] = {size: [] for size in IMAGES}
    for size, seed in wanted:
        images[size].append(np.asarray(Image.open(file(size, seed)).convert("RGB")))
    return images


def file(size: int, seed: int) -> Path:
    """Return the file of an unmarked image."""
    return FOLDER / f"{size}-{seed}.png"


def psnr(before: np.ndarray, after: np.ndarray) -> float:
    """Return the ratio of peak signal to noise in decibels."""
    return 10 * math.log10(255**2 / float(np.mean((before.astype(float) - after) ** 2)))


def ssim(before: np.ndarray, after: np.ndarray) -> float:
    """Return the structural similarity of the luminances (Wang et al., 2004), with a Gaussian of 1.5 pixels."""
    x, y = (luminance(one).astype(float) for one in (before, after))
    mean_x, mean_y = (gaussian_filter(one, 1.5) for one in (x, y))
    variance_x, variance_y = (gaussian_filter(one**2, 1.5) - mean**2 for one, mean in ((x, mean_x), (y, mean_y)))
    covariance = gaussian_filter(x * y, 1.5) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(similarity / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))))


def find(transform: Transform, pixels: np.ndarray) -> Mark | None:
    """Return the mark of a changed image."""
    return detect(np.asarray(transform(Image.fromarray(pixels))))


def bits(one: bytes, other: bytes) -> int:
    """Return the number of bits in which two fingerprints differ."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def milliseconds(call: Callable[[np.ndarray], object], images: Sequence[np.ndarray]) -> float:
    """Return the median processor time of a call."""
    taken = []
    for image in images:
        started = time.process_time()
        call(image)
        taken.append(time.process_time() - started)
    return 1e3 * float(np.median(taken))


def measure(size: int, images: Sequence[np.ndarray]) -> None:
    """Print what is measured on the images of one size."""
    numbers = np.random.default_rng(0).integers(0, 2**32, len(images)).tolist()
    marked = [embed(image, number) for image, number in zip(images, numbers, strict=True)]
    quality = [psnr(*pair) for pair in zip(images, marked, strict=True)]
    similar = [ssim(*pair) for pair in zip(images, marked, strict=True)]
    print(f"\n{len(images)} images of {size} pixels")
    print(f"  PSNR {np.mean(quality):.1f} dB (least {min(quality):.1f}), SSIM {np.mean(similar):.4f} ", end="")
    print(f"(least {min(similar):.4f})")
    embedding = milliseconds(lambda image: embed(image, 1), images)
    print(f"  processor time: embed {embedding:.0f} ms, find {milliseconds(detect, marked):.0f} ms", end="")
    print(f", search in vain {milliseconds(detect, images):.0f} ms")
    prints = [fingerprint(image) for image in marked]
    least = min(bits(one, other) for one, other in itertools.combinations(prints, 2))
    print(f"  fingerprints of different images differ in at least {least} of 256 bits, {SIMILAR_BITS} are allowed")
    print(f"  {'':34}{'found':>10}{'id read':>10}{'wrong id':>10}{'unmarked':>10}{'fingerprint':>14}", flush=True)
    for name, transform in TRANSFORMS.items():
        found = [find(transform, image) for image in marked]
        read = [(mark.id, number) for mark, number in zip(found, numbers, strict=True) if mark and mark.id is not None]
        right = sum(one == number for one, number in read)
        wrong = len(read) - right
        unmarked = sum(find(transform, image) is not None for image in images)
        counts = (sum(mark is not None for mark in found), right, wrong, unmarked)
        changed = [fingerprint(np.asarray(transform(Image.fromarray(image)))) for image in marked]
        same = sum(bits(*pair) <= SIMILAR_BITS for pair in zip(prints, changed, strict=True))
        columns = "".join(f"{f'{count}/{len(images)}':>10}" for count in counts)
        print(f"  {name:34}{columns}{f'{same}/{len(images)}':>14}", flush=True)


def main() -> None:
    """Measure images of each size."""
    images = drawn()
    print(machine())
    for size in sorted(images):
        measure(size, images[size])


if __name__ == "__main__":
    main()
