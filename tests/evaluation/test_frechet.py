"""The Fréchet distance, against known distances. The comparison with torch-fidelity is in parity/."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_evaluation.frechet import Gaussian, Moments, frechet_distance, moments


def rotation(channels: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).standard_normal((channels, channels)))[0]


@pytest.mark.parametrize("channels", [1, 7, 64])
def test_gaussians_along_the_same_axes(channels: int) -> None:
    """Covariances that commute: d² = |μ₁ − μ₂|² + Σ (√a − √b)²."""
    rng = np.random.default_rng(channels)
    axes = rotation(channels)
    a, b = rng.uniform(0.1, 4, (2, channels))
    mean_a, mean_b = rng.standard_normal((2, channels))
    first, second = Gaussian(mean_a, (axes * a) @ axes.T), Gaussian(mean_b, (axes * b) @ axes.T)
    known = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(first, second) == pytest.approx(known, rel=1e-12)


def test_two_gaussians_of_the_plane() -> None:
    """Covariances that don't: in two dimensions Tr M^½ = √(Tr M + 2 √det M), of M = Σ₁ Σ₂."""
    first = Gaussian(np.array([1.0, 2.0]), np.array([[3.0, 1.0], [1.0, 2.0]]))
    second = Gaussian(np.array([-1.0, 0.0]), np.array([[1.0, -0.5], [-0.5, 4.0]]))
    product = first.covariance @ second.covariance
    shared = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    known = 8 + 5 + 5 - 2 * shared
    assert frechet_distance(first, second) == pytest.approx(known, rel=1e-12)
    assert frechet_distance(second, first) == pytest.approx(known, rel=1e-12)


def test_fewer_images_than_channels() -> None:
    """Singular covariances of one plane in 50 dimensions are as far apart as in the plane."""
    rng = np.random.default_rng(0)
    plane = rotation(50)[:, :2]
    points = rng.standard_normal((2, 9, 2)) * [[[1.0, 3.0]], [[2.0, 0.5]]] + [[[0.0, 1.0]], [[2.0, 0.0]]]
    flat = frechet_distance(*(moments([p]) for p in points))
    assert frechet_distance(*(moments([p @ plane.T]) for p in points)) == pytest.approx(flat, rel=1e-9)
    assert frechet_distance(moments([points[0] @ plane.T]), moments([points[0] @ plane.T])) < 1e-9


@given(cuts=st.lists(st.integers(0, 40), max_size=6), offset=st.sampled_from([0.0, 1e4]))
def test_moments_do_not_depend_on_the_batch_size(cuts: list[int], offset: float) -> None:
    rows = (np.random.default_rng(0).standard_normal((40, 5)) + offset).astype(np.float32)
    taken = Moments(5)
    for batch in np.split(rows, sorted(cuts)):
        taken.add(batch)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(taken.gaussian().mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(taken.gaussian().covariance, np.cov(exact, rowvar=False), rtol=1e-7, atol=1e-9)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least two images, got 1"):
        moments([np.ones((1, 3), np.float32)])
    with pytest.raises(ValueError, match="got 0"):
        moments([])
