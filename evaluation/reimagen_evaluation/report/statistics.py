"""Confidence intervals of figures that were measured on a limited number of images; all are 95 % intervals."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

_Z: Final = 1.959963984540054
RESAMPLES: Final = 4000


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, measured on `n` items."""

    value: float
    low: float
    high: float
    n: int
    proportion: bool = False
    """Whether the figure is a share of items, printed in percent."""


def wilson(successes: int, n: int) -> Estimate:
    """Return a proportion with Wilson's score interval, which is valid for few items and for shares near 0 and 1."""
    share = successes / n
    center = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else float(center - half)
    high = 1.0 if successes == n else float(center + half)
    return Estimate(share, low, high, n, proportion=True)


def mean(values: Float[np.ndarray, " items"]) -> Estimate | None:
    """Return the mean of the values that are not NaN; None without values.

    The interval is Wilson's if all values are 0 or 1, else the bootstrap's.
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    if np.isin(values, (0.0, 1.0)).all():
        return wilson(int(values.sum()), len(values))
    return _bootstrap(values, proportion=False)


def difference(a: Float[np.ndarray, " items"], b: Float[np.ndarray, " items"]) -> Estimate | None:
    """Return the mean of a - b over paired items, with the paired bootstrap's interval; None without pairs."""
    pairs = (a - b)[~np.isnan(a - b)]
    return _bootstrap(pairs, proportion=_binary(a, b)) if len(pairs) else None


def independent_difference(a: Float[np.ndarray, " a"], b: Float[np.ndarray, " b"]) -> Estimate | None:
    """Return the mean of a less the mean of b, of different items, by the bootstrap of each; None if one is empty."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if len(a) == 0 or len(b) == 0:
        return None
    means = _resampled(a, seed=0) - _resampled(b, seed=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(a.mean() - b.mean()), float(low), float(high), min(len(a), len(b)), _binary(a, b))


def _binary(*values: Float[np.ndarray, " items"]) -> bool:
    return all(bool(np.isin(v[~np.isnan(v)], (0.0, 1.0)).all()) for v in values)


def _bootstrap(values: Float[np.ndarray, " items"], *, proportion: bool) -> Estimate:
    low, high = np.quantile(_resampled(values, seed=0), (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high), len(values), proportion)


def _resampled(values: Float[np.ndarray, " items"], seed: int) -> Float[np.ndarray, " resamples"]:
    """Return the means of resamples, which are the same for the same seed."""
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    means: Float[np.ndarray, " resamples"] = values[draws].mean(axis=1)
    return means
