"""Variety: how different the pictures of one prompt are from each other, over several seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, UInt8

from reimagen_evaluation.judges.squares import to_side

_PIXELS_SIDE = 64

Pictures = UInt8[np.ndarray, "pictures height width 3"]


@dataclass(frozen=True)
class Variety:
    """The mean distances between two pictures of a prompt."""

    features: float
    """Euclidean, in a network's features."""
    pixels: float
    """Root mean square, of 255, at 64 pixels."""


def variety(prompts: Sequence[Pictures], features: Callable[[Pictures], Float[np.ndarray, "pictures n"]]) -> Variety:
    """Return the variety of pictures, the mean over prompts.

    Args:
        prompts: The pictures of each prompt, at least two.
        features: Gives the features of pictures.

    Raises:
        ValueError: a prompt has fewer than two pictures, or there is no prompt.
    """
    if not prompts or min(len(pictures) for pictures in prompts) < 2:
        raise ValueError("prompts: at least one is needed, with at least two pictures of each")
    in_features = [_mean_distance(features(pictures)) for pictures in prompts]
    in_pixels = []
    for pictures in prompts:
        small = to_side(list(pictures), _PIXELS_SIDE).reshape(len(pictures), -1).astype(np.float64)
        in_pixels.append(_mean_distance(small) / np.sqrt(small.shape[1]))
    return Variety(float(np.mean(in_features)), float(np.mean(in_pixels)))


def _mean_distance(rows: Float[np.ndarray, "pictures n"]) -> float:
    return float(np.mean([np.linalg.norm(a - b) for a, b in combinations(rows.astype(np.float64), 2)]))
