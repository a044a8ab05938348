"""Conversion of images of any shape to the squares that judges take."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_evaluation.judges.judge import Pixels


def padded_square(image: Pixels) -> UInt8[np.ndarray, "side side 3"]:
    """Return the image centered in a square; its outermost pixels are repeated to fill the square."""
    height, width, _ = image.shape
    missing = abs(height - width)
    before_after = (missing // 2, missing - missing // 2)
    return np.pad(
        image,
        [(0, 0) if height >= width else before_after, (0, 0) if width >= height else before_after, (0, 0)],
        "edge",
    )


def halves(image: Pixels) -> tuple[UInt8[np.ndarray, "side side 3"], UInt8[np.ndarray, "side side 3"]]:
    """Return the left and the right half, each padded to a square."""
    middle = image.shape[1] // 2
    return padded_square(image[:, :middle]), padded_square(image[:, middle:])


def to_side(images: Sequence[Pixels], side: int) -> UInt8[np.ndarray, "images side side 3"]:
    """Return the images padded to squares and resized by area averaging to one side in pixels."""
    resized = [
        np.asarray(Image.fromarray(padded_square(image)).resize((side, side), Image.Resampling.BOX)) for image in images
    ]
    return np.stack(resized) if resized else np.zeros((0, side, side, 3), np.uint8)
