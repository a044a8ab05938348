"""Pictures of any shape, as the squares that a judge looks at."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_evaluation.judges.judge import Picture


def padded_square(picture: Picture) -> UInt8[np.ndarray, "side side 3"]:
    """The picture in the middle of a square whose rest repeats its outermost pixels."""
    height, width, _ = picture.shape
    missing = abs(height - width)
    before_after = (missing // 2, missing - missing // 2)
    return np.pad(
        picture,
        [(0, 0) if height >= width else before_after, (0, 0) if width >= height else before_after, (0, 0)],
        "edge",
    )


def halves(picture: Picture) -> tuple[UInt8[np.ndarray, "side side 3"], UInt8[np.ndarray, "side side 3"]]:
    """The left and the right half, each padded to a square."""
    middle = picture.shape[1] // 2
    return padded_square(picture[:, :middle]), padded_square(picture[:, middle:])


def to_side(pictures: Sequence[Picture], side: int) -> UInt8[np.ndarray, "pictures side side 3"]:
    """The pictures, padded to squares, at one side in pixels: each pixel the mean of the area that it covers."""
    resized = [
        np.asarray(Image.fromarray(padded_square(picture)).resize((side, side), Image.Resampling.BOX))
        for picture in pictures
    ]
    return np.stack(resized) if resized else np.zeros((0, side, side, 3), np.uint8)
