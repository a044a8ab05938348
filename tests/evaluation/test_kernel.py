"""The kernel distance, against its definition. The comparison with torch-fidelity is in parity/."""

from itertools import permutations, product

import numpy as np
import pytest

from reimagen_evaluation.kernel import kernel_distance, squared_discrepancy


def k(x: np.ndarray, y: np.ndarray) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def test_the_estimate_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 6, 4))
    within = [k(a[i], a[j]) for a in (x, y) for i, j in permutations(range(6), 2)]
    between = [k(x[i], y[j]) for i, j in product(range(6), repeat=2)]
    known = sum(within) / 30 - 2 * np.mean(between)
    assert squared_discrepancy(x, y) == pytest.approx(known, rel=1e-12)


def test_the_distance_of_known_points() -> None:
    """With two points each, k(0, 0) = 1 for all pairs, and k(1, 1) = 8 in one dimension."""
    zeros, ones = np.zeros((2, 1)), np.ones((2, 1))
    assert squared_discrepancy(zeros, ones) == pytest.approx(1 + 8 - 2)
    assert squared_discrepancy(ones, ones) == pytest.approx(0)


def test_the_estimate_is_unbiased() -> None:
    """Estimates of subsets average to zero for one distribution, and to the known distance for a shifted one."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4000, 8)).astype(np.float32)
    alike = kernel_distance(x, y, subset_size=50)
    assert abs(alike.mean) < 3 * alike.deviation / np.sqrt(80)
    apart = kernel_distance(x, y + 1, subset_size=50)
    assert apart.mean > 10 * apart.deviation / np.sqrt(80)
    assert kernel_distance(x, y, subset_size=50) == alike  # the same subsets each time


def test_too_few_images_are_reported() -> None:
    with pytest.raises(ValueError, match="at most the number of images, 9, got 10"):
        kernel_distance(np.zeros((20, 2), np.float32), np.zeros((9, 2), np.float32), subset_size=10)
