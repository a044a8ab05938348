"""Neighbor images as the networks receive them."""

import numpy as np
import pytest

from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.resize import resized

GROUND, INK = (240, 230, 220), (10, 60, 200)


def block(text: str, height: int = 64, width: int = 64) -> ReferencePair:
    """Return a block of ink in the middle half of each side, on a plain background."""
    image = np.full((height, width, 3), GROUND, np.uint8)
    image[height // 4 : -(height // 4), width // 4 : -(width // 4)] = INK
    return ReferencePair(image, text)


def ink(image: np.ndarray) -> tuple[float, float, float]:
    """Return the center, from the left and top, of the pixels closer to ink than to background, and their share."""
    rows, columns = np.nonzero(image[..., 0] < 125)
    height, width, _ = image.shape
    return (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height, len(rows) / (height * width)


def test_an_image_is_padded_with_its_border_color_and_not_stretched() -> None:
    shown = np.asarray(resized([block("a fox", 64, 32)], 64, 2))
    assert shown.shape == (1, 2, 64, 64, 3)
    first = np.round(255 * (shown[0, 0] + 1) / 2).astype(np.uint8)
    assert (np.abs(first[:, 0].astype(int) - GROUND) <= 1).all()
    assert ink(first)[2] == pytest.approx(0.5 * 0.25, rel=0.1)
    assert (shown[0, 1] == -1).all()
