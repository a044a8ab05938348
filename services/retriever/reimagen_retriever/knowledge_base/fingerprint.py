"""Fingerprints of images, which find near-duplicates: the same image in another file, size or quality.

A fingerprint is the image's mean color in each of 8 × 8 cells, after resizing to a square. Hashes with one bit per cell
(dHash, pHash) lose colors and contrast, and icons often differ only in those: a blue book and an orange one have the
same bits. docs/how-to/training-data.md has the measurements.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reimagen_common.images import read_image

GRID = 8
FARTHEST = 4.0
"""Largest root mean square difference between the fingerprints of near-duplicates, in 255ths."""
FARTHEST_OF_SPREAD = 0.25
"""Largest difference as a share of either one's standard deviation: faint images differ little from each other."""
ROUNDING = 0.5
"""A smaller difference always counts as near: rounding colors to integers causes as much."""
FOLDER = "fingerprints"
"""Name of the folder of fingerprints in a base's data folder."""
DECODED_SIDE = 64
"""Side in pixels that images are decoded to, at most, for their fingerprint."""

Fingerprint = NDArray[np.uint8]
"""8 · 8 · 3 colors, 0 to 255."""


def fingerprint(data: bytes) -> Fingerprint:
    """Return the fingerprint of an image file.

    Raises:
        ImageError: The file is not a readable image.
    """
    return fingerprint_of(read_image(data, DECODED_SIDE).rgb)


def fingerprint_of(image: Image.Image) -> Fingerprint:
    """Return the fingerprint of an image that was decoded to DECODED_SIDE."""
    return np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)).reshape(-1)


def near_duplicates(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Compare all fingerprints of two sets.

    Args:
        some: Fingerprints, (n, 192).
        others: Fingerprints, (m, 192).

    Returns:
        Whether each two are near-duplicates, (n, m); symmetric in the arguments.
    """
    # Single precision is exact here: all sums are multiples of 1/4 below 2**22.
    left, right = some.astype(np.float32) - np.float32(127.5), others.astype(np.float32) - np.float32(127.5)
    squares = [np.einsum("nd,nd->n", each, each).astype(np.float64) for each in (left, right)]
    # Not BLAS: it would wait for its own threads, which get no cores in a busy service.
    products = np.einsum("nd,md->nm", left, right).astype(np.float64)
    distance = np.sqrt(np.maximum(squares[0][:, None] + squares[1] - 2 * products, 0) / left.shape[1])
    near = distance <= FARTHEST
    # Spreads cost more than distances, and only the few images within FARTHEST need theirs.
    close = near.any(axis=0)
    least = np.minimum(spread(left.astype(np.float64))[:, None], spread(right[close].astype(np.float64)))
    near[:, close] &= distance[:, close] <= np.maximum(FARTHEST_OF_SPREAD * least, ROUNDING)
    return np.asarray(near)


def spread(fingerprints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation of each fingerprint's cells from the image's mean color: (n, 192) to (n)."""
    cells = fingerprints.reshape(len(fingerprints), GRID * GRID, 3)
    return np.asarray(np.sqrt(cells.var(axis=1).mean(axis=1)))
