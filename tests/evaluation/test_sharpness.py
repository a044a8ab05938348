"""Grain and edge width, on images with known values."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from reimagen_evaluation.sharpness import edge_width, grain


def gray(light: np.ndarray) -> np.ndarray:
    return np.repeat(np.round(light).astype(np.uint8)[..., None], 3, axis=2)


def ramp(pixels: int, rise: float, side: int = 40) -> np.ndarray:
    """Return an image that is dark on the left and lighter on the right, changing evenly over some pixels."""
    return gray(np.tile(20 + rise * np.clip((np.arange(side) - 10) / pixels, 0, 1), (side, 1)))


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_the_width_of_an_edge_spans_80_percent_of_its_change(pixels: int) -> None:
    assert edge_width(ramp(pixels, 200)) == pytest.approx(0.8 * pixels)
    assert edge_width(np.rot90(ramp(pixels, 200))) == pytest.approx(0.8 * pixels)
    assert edge_width(255 - ramp(pixels, 200)) == pytest.approx(0.8 * pixels)


@pytest.mark.parametrize("image", [ramp(30, 200), ramp(1, 60)], ids=["gradient", "faint"])
def test_gradients_and_faint_changes_are_not_edges(image: np.ndarray) -> None:
    assert np.isnan(edge_width(image))


def test_blur_widens_edges_by_its_normal_distribution() -> None:
    """80 % of a normal distribution is within 1.28 deviations of the mean."""
    blurred = np.asarray(Image.fromarray(ramp(1, 230)).filter(ImageFilter.GaussianBlur(2)))
    assert edge_width(blurred) == pytest.approx(2 * 1.2816 * 2, rel=0.06)


def test_grain_measures_noise_not_gradients_or_edges() -> None:
    assert grain(ramp(30, 200)) < 1
    assert grain(ramp(1, 200)) == 0
    noise = np.random.default_rng(0).normal(0, 3, (100, 100))
    # The Laplacian of independent noise has √20 times its deviation; half of a normal distribution is within 0.67.
    assert grain(gray(128 + noise)) == pytest.approx(0.6745 * np.sqrt(20) * 3, rel=0.03)
