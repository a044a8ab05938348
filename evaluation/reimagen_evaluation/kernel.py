"""The kernel distance of two sets of features (KID, arXiv 1801.01401): a squared maximum mean discrepancy.

The kernel is k(x, y) = (x·y / channels + 1)³. Many random subsets of both sets are drawn. The mean of their unbiased
estimates is the distance; the estimates' deviation says how reliable one subset's estimate is. Unlike the Fréchet
distance it has no bias that depends on the number of images; it can be a little below zero if the sets are alike.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reimagen_evaluation.features.network import Features

SUBSETS = 100
SUBSET_SIZE = 1_000
_SEED = 2020
"""Seed for numpy's legacy generator; both are torch-fidelity's, so that the same subsets are drawn."""


@dataclass(frozen=True)
class KernelDistance:
    """The distance over all subsets."""

    mean: float
    """Mean of the subsets' estimates."""
    deviation: float
    """Standard deviation of one subset's estimate; the mean's is smaller, depending on the subsets' overlap."""


def kernel_distance(
    first: Features, second: Features, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> KernelDistance:
    """Return the distance of two sets of features.

    Raises:
        ValueError: a set has fewer rows than a subset.
    """
    for features in (first, second):
        if len(features) < subset_size:
            raise ValueError(f"subset_size: must be at most the number of images, {len(features)}, got {subset_size}")
    rng = np.random.RandomState(_SEED)
    estimates = []
    for _ in range(subsets):
        x = first[rng.choice(len(first), subset_size, replace=False)]
        y = second[rng.choice(len(second), subset_size, replace=False)]
        estimates.append(squared_discrepancy(x, y))
    return KernelDistance(float(np.mean(estimates)), float(np.std(estimates)))


def squared_discrepancy(x: Float[np.ndarray, "rows channels"], y: Float[np.ndarray, "rows channels"]) -> float:
    """Return the unbiased estimate from equally many rows: means of k over pairs of different rows (equation 4)."""
    rows = len(x)
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    pairs = rows * (rows - 1)
    within = (within_x.sum() - np.trace(within_x) + within_y.sum() - np.trace(within_y)) / pairs
    return float(within - 2 * between.mean())


def _kernel(x: Float[np.ndarray, "a channels"], y: Float[np.ndarray, "b channels"]) -> Float[np.ndarray, "a b"]:
    # In float64, because the estimate is a small difference of large sums.
    values: Float[np.ndarray, "a b"] = (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1.0) ** 3
    return values
