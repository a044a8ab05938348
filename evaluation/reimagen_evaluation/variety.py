"""Variety: how much the images of one prompt differ from each other over several seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, UInt8

from reimagen_evaluation.judges.squares import to_side

_PIXELS_SIDE = 64

Images = UInt8[np.ndarray, "images height width 3"]


@dataclass(frozen=True)
class Variety:
    """Mean distances between two images of the same prompt."""

    features: float
    """Euclidean distance in a network's features."""
    pixels: float
    """Root mean square difference of pixels, of 255, at 64 × 64."""


def variety(prompts: Sequence[Images], features: Callable[[Images], Float[np.ndarray, "images n"]]) -> Variety:
    """Return the variety of images, as the mean over prompts.

    Args:
        prompts: images of each prompt, at least two per prompt.
        features: returns the features of images.

    Raises:
        ValueError: a prompt has fewer than two images, or there is no prompt.
    """
    if not prompts or min(len(images) for images in prompts) < 2:
        raise ValueError("prompts: at least one is needed, with at least two images of each")
    in_features = [_mean_distance(features(images)) for images in prompts]
    in_pixels = []
    for images in prompts:
        small = to_side(list(images), _PIXELS_SIDE).reshape(len(images), -1).astype(np.float64)
        in_pixels.append(_mean_distance(small) / np.sqrt(small.shape[1]))
    return Variety(float(np.mean(in_features)), float(np.mean(in_pixels)))


def _mean_distance(rows: Float[np.ndarray, "images n"]) -> float:
    return float(np.mean([np.linalg.norm(a - b) for a, b in combinations(rows.astype(np.float64), 2)]))
