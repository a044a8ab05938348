"""The kernel distance of two sets of features (KID, arXiv 1801.01401): a squared maximum mean discrepancy.

The kernel is k(x, y) = (x·y / channels + 1)³. Subsets of both sets are drawn many times: the mean of their unbiased
estimates is the distance, and their deviation says how far one subset's is to be trusted. Unlike the Fréchet distance
it is not biased by how many images there are; it can be a little below zero where the sets are alike.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reimagen_evaluation.features.network import Features

SUBSETS = 100
SUBSET_SIZE = 1_000
_SEED = 2020
"""And numpy's old generator: torch-fidelity's, so that the same subsets are drawn."""


@dataclass(frozen=True)
class KernelDistance:
    """The distance over all subsets."""

    mean: float
    deviation: float
    """Of one subset's estimate; that of the mean is low_res, by how much depends on how subsets overlap."""


def kernel_distance(
    first: Features, second: Features, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> KernelDistance:
    """The distance of two sets of features.

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
    """The unbiased estimate from as many rows of each: the means of k over pairs of different rows (equation 4)."""
    rows = len(x)
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    pairs = rows * (rows - 1)
    within = (within_x.sum() - np.trace(within_x) + within_y.sum() - np.trace(within_y)) / pairs
    return float(within - 2 * between.mean())


def _kernel(x: Float[np.ndarray, "a channels"], y: Float[np.ndarray, "b channels"]) -> Float[np.ndarray, "a b"]:
    # In float64: the estimate is a small difference of large sums.
    values: Float[np.ndarray, "a b"] = (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1.0) ** 3
    return values
