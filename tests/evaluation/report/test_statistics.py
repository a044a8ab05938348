"""Confidence intervals against their definitions, and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_evaluation.report import statistics

Z = 1.959963984540054


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_ends_are_where_the_score_test_just_rejects(counts: tuple[int, int]) -> None:
    """The interval contains the shares p with |p̂ - p| ≤ z √(p (1 - p) / n)."""
    successes, n = counts
    estimate = statistics.wilson(successes, n)
    share = successes / n
    assert 0 <= estimate.low <= share <= estimate.high <= 1
    for end in (estimate.low, estimate.high):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(Z * np.sqrt(end * (1 - end) / n), rel=1e-6, abs=1e-9)


def test_a_published_interval() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, and 0 of 20 gives 0 to 0.1611."""
    assert statistics.wilson(81, 263).low == pytest.approx(0.2553, abs=5e-5)
    assert statistics.wilson(81, 263).high == pytest.approx(0.3662, abs=5e-5)
    assert (statistics.wilson(0, 20).low, statistics.wilson(0, 20).high) == pytest.approx((0, 0.1611), abs=5e-5)


def test_means_of_shares_are_proportions_and_others_are_not() -> None:
    shares = statistics.mean(np.array([1.0, 0.0, np.nan, 1.0]))
    assert shares == statistics.wilson(2, 3)
    numbers = statistics.mean(np.array([0.25, 0.5, np.nan]))
    assert numbers is not None
    assert (numbers.value, numbers.n, numbers.proportion) == (0.375, 2, False)
    assert statistics.mean(np.array([np.nan])) is None
    assert statistics.mean(np.zeros(0)) is None


def test_paired_intervals_cover_the_truth_at_their_level() -> None:
    """200 studies of 100 items whose two scores are strongly correlated, with a true difference of 0.1."""
    rng = np.random.default_rng(1)
    held, paired, apart = 0, [], []
    for _ in range(200):
        items = rng.normal(0, 1, 100)
        a, b = items + rng.normal(0.1, 0.3, 100), items + rng.normal(0, 0.3, 100)
        difference = statistics.difference(a, b)
        independent = statistics.independent_difference(a, b)
        assert difference is not None
        assert independent is not None
        held += difference.low <= 0.1 <= difference.high
        paired.append(difference.high - difference.low)
        apart.append(independent.high - independent.low)
    assert 0.9 <= held / 200 <= 0.99
    # Pairing makes a hundred prompts enough.
    assert np.mean(paired) < 0.5 * np.mean(apart)


def test_items_without_both_sides_are_left_out_of_a_difference() -> None:
    difference = statistics.difference(np.array([1.0, np.nan, 1.0]), np.array([0.0, 0.0, 1.0]))
    assert difference is not None
    assert (difference.value, difference.n, difference.proportion) == (0.5, 2, True)
