"""Variety, on images with known distances."""

import numpy as np
import pytest

from reimagen_evaluation.variety import Images, variety


def means(images: Images) -> np.ndarray:
    """A feature network whose features are the mean color."""
    mean: np.ndarray = images.reshape(len(images), -1, 3).mean(axis=1)
    return mean


def plain(*grays: int) -> Images:
    return np.stack([np.full((128, 128, 3), gray, np.uint8) for gray in grays])


def test_identical_images_have_no_variety() -> None:
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8), 8, axis=0)
    found = variety([same, same], means)
    assert found.features == found.pixels == 0


def test_distances_are_means_over_pairs_and_then_over_prompts() -> None:
    # Pairs of 0, 30, 60 are 30, 30 and 60 apart; those of 100 and 110 are 10 apart.
    found = variety([plain(0, 30, 60), plain(100, 110)], means)
    assert found.pixels == pytest.approx((40 + 10) / 2)
    assert found.features == pytest.approx(np.sqrt(3) * (40 + 10) / 2)


def test_pixels_are_compared_at_64_pixels() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (2, 512, 512, 3), np.uint8)
    assert variety([grain], means).pixels < 20


def test_one_image_of_a_prompt_has_no_distance() -> None:
    with pytest.raises(ValueError, match="prompts: at least one is needed, with at least two images of each"):
        variety([plain(0, 1), plain(0)], means)
