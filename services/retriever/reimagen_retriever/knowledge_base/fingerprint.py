"""Near-duplicates: the same image in another file, size or quality, told by its colors on a coarse grid.

A fingerprint is the image's mean color in each of 8 × 8 cells, squashed to a square. Hashes of a bit per cell (dHash,
pHash) keep neither colors nor contrast, and icons differ in just those: a blue book and an orange one have the same
bits. docs/training-data.md has the measurements.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reimagen_common.images import read_image

GRID = 8
FARTHEST = 4.0
"""Root mean square difference of two near-duplicates' fingerprints, at most, in 255ths."""
FARTHEST_OF_SPREAD = 0.25
"""And at most this share of either one's standard deviation: faint images differ little from one another."""
ROUNDING = 0.5
"""Less than this is always near: rounding to whole colors makes as much."""
FOLDER = "fingerprints"
"""Of a base's fingerprints, within its data folder."""
DECODED_SIDE = 64
"""An image is decoded no larger for its fingerprint."""

Fingerprint = NDArray[np.uint8]
"""8 · 8 · 3 colors, 0 to 255."""


def fingerprint(data: bytes) -> Fingerprint:
    """The fingerprint of an image's file.

    Raises:
        ImageError: it is no readable image.
    """
    return fingerprint_of(read_image(data, DECODED_SIDE).rgb)


def fingerprint_of(image: Image.Image) -> Fingerprint:
    """The fingerprint of an image that was decoded to DECODED_SIDE."""
    return np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)).reshape(-1)


def near_duplicates(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images are near-duplicates of which.

    Args:
        some: fingerprints, (n, 192).
        others: fingerprints, (m, 192).

    Returns:
        (n, m), symmetric in its arguments.
    """
    # Single precision is exact here: sums of quarters below 2**22.
    left, right = some.astype(np.float32) - np.float32(127.5), others.astype(np.float32) - np.float32(127.5)
    squares = [np.einsum("nd,nd->n", each, each).astype(np.float64) for each in (left, right)]
    # BLAS would wait for threads of its own, which a busy service does not get.
    products = np.einsum("nd,md->nm", left, right).astype(np.float64)
    distance = np.sqrt(np.maximum(squares[0][:, None] + squares[1] - 2 * products, 0) / left.shape[1])
    near = distance <= FARTHEST
    # Spreads take longer than distances, and few are near enough for theirs to matter.
    close = near.any(axis=0)
    least = np.minimum(spread(left.astype(np.float64))[:, None], spread(right[close].astype(np.float64)))
    near[:, close] &= distance[:, close] <= np.maximum(FARTHEST_OF_SPREAD * least, ROUNDING)
    return np.asarray(near)


def spread(fingerprints: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much the cells of fingerprints differ from their image's mean color: (n, 192) to (n)."""
    cells = fingerprints.reshape(len(fingerprints), GRID * GRID, 3)
    return np.asarray(np.sqrt(cells.var(axis=1).mean(axis=1)))
