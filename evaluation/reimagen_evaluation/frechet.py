"""The Fréchet distance of two sets of features, each modeled as a Gaussian (FID, arXiv 1706.08500).

d² = |μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reimagen_evaluation.features.network import Features


@dataclass(frozen=True)
class Gaussian:
    """A mean and a covariance."""

    mean: Float[np.ndarray, " channels"]
    covariance: Float[np.ndarray, "channels channels"]


class Moments:
    """The running mean and covariance of batches of features, accumulated in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._mean = np.zeros(channels)
        self._scatter = np.zeros((channels, channels))

    def add(self, features: Features) -> None:
        """Add a batch: the scatter of both parts about their means, and that of the means (Chan et al., 1979)."""
        if len(features) == 0:
            return
        batch = np.asarray(features, np.float64)
        mean = batch.mean(axis=0)
        centered, apart = batch - mean, mean - self._mean
        total = self.count + len(batch)
        self._scatter += centered.T @ centered + np.outer(apart, apart) * (self.count * len(batch) / total)
        self._mean = self._mean + apart * (len(batch) / total)
        self.count = total

    def gaussian(self) -> Gaussian:
        """Return the mean and the unbiased covariance.

        Raises:
            ValueError: fewer than two rows were added.
        """
        if self.count < 2:
            raise ValueError(f"features: a covariance needs at least two images, got {self.count}")
        return Gaussian(self._mean.copy(), self._scatter / (self.count - 1))


def moments(batches: Iterable[Features]) -> Gaussian:
    """Return the Gaussian of all batches.

    Raises:
        ValueError: there are fewer than two rows.
    """
    taken: Moments | None = None
    for features in batches:
        taken = Moments(features.shape[1]) if taken is None else taken
        taken.add(features)
    return (taken or Moments(0)).gaussian()


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Return d², at least zero.

    Tr (Σ₁ Σ₂)^½ is the sum of the singular values of Σ₁^½ Σ₂^½, whose squares are the eigenvalues of Σ₁ Σ₂. The sum is
    real and exact to rounding, even with fewer images than channels, when the covariances are singular.
    """
    shared = float(np.linalg.norm(_root(first.covariance) @ _root(second.covariance), "nuc"))
    apart = first.mean - second.mean
    distance = float(apart @ apart) + float(np.trace(first.covariance) + np.trace(second.covariance)) - 2 * shared
    return max(0.0, distance)


def _root(covariance: Float[np.ndarray, "channels channels"]) -> Float[np.ndarray, "channels channels"]:
    """Return the symmetric square root; eigenvalues that are zero except for rounding are set to zero."""
    values, vectors = np.linalg.eigh(covariance)
    values[values < values.max() * len(values) * np.finfo(float).eps] = 0.0
    root: Float[np.ndarray, "channels channels"] = (vectors * np.sqrt(values)) @ vectors.T
    return root
