"""Confidence intervals of figures that were measured on a limited number of images; all are 95 % intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from scipy import stats

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
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n, proportion=True)


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
    low, high = _interval((a, b), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis))
    return Estimate(float(a.mean() - b.mean()), low, high, min(len(a), len(b)), _binary(a, b))


def _binary(*values: Float[np.ndarray, " items"]) -> bool:
    return all(bool(np.isin(v[~np.isnan(v)], (0.0, 1.0)).all()) for v in values)


def _bootstrap(values: Float[np.ndarray, " items"], *, proportion: bool) -> Estimate:
    low, high = _interval((values,), np.mean)
    return Estimate(float(values.mean()), low, high, len(values), proportion)


def _interval(samples: tuple[Float[np.ndarray, " items"], ...], statistic: Callable[..., Any]) -> tuple[float, float]:
    """Return the percentile interval of the bootstrap, with the same resamples for the same data."""
    if min(map(len, samples)) < 2:  # one item has no spread to resample
        value = float(statistic(*samples, axis=0))
        return value, value
    found = stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)
