"""The bound that trains a learned variance, against Gaussians of DDPM's betas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reimagen_generator.config.presets import PRESETS
from reimagen_generator.diffusion.schedule import TIMESTEPS
from reimagen_generator.training.variance import variance_bound

STAGE = PRESETS["deepfloyd-if-m"].stages[0]
STEPS = np.array([0, 1, 2, 50, 500, 998])
SHAPE = (len(STEPS), 4, 4, 3)
TIME = jnp.asarray(STEPS / TIMESTEPS, jnp.float32)


def bits(epsilon: np.ndarray, x_0: np.ndarray, predicted: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return KL(q ‖ p) in bits, of x_{n-1} given x_n (arXiv 2006.11239, eq. 6, 7; arXiv 2102.09672, eq. 15, 17)."""
    places = (np.arange(TIMESTEPS + 1) / TIMESTEPS + 0.008) / 1.008
    level = np.cos(places * np.pi / 2) ** 2
    betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    left = np.cumprod(1 - betas)
    found = np.zeros(len(STEPS))
    for row, n in enumerate(STEPS):
        if n == 0:
            continue
        x_n = np.sqrt(left[n]) * x_0[row] + np.sqrt(1 - left[n]) * epsilon[row]
        guess = (x_n - np.sqrt(1 - left[n]) * predicted[row]) / np.sqrt(left[n])
        # The means differ only by their parts of x_0.
        of_x_0 = np.sqrt(left[n - 1]) * betas[n] / (1 - left[n])
        exact = (1 - left[n - 1]) / (1 - left[n]) * betas[n]
        share = (variance[row] + 1) / 2
        learned = np.exp(share * np.log(betas[n]) + (1 - share) * np.log(exact))
        apart = (of_x_0 * (x_0[row] - guess)) ** 2
        found[row] = np.mean(0.5 * (np.log(learned / exact) - 1 + exact / learned + apart / learned)) / np.log(2)
    return found


def test_the_bound_equals_the_divergence_of_the_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    epsilon, x_0, error, variance = rng.standard_normal((4, *SHAPE))
    wanted = bits(epsilon, x_0, epsilon + 0.1 * error, variance)
    found = variance_bound(STAGE, TIME, jnp.asarray(0.1 * error, jnp.float32), jnp.asarray(variance, jnp.float32))
    assert found[0] == 0.0
    # In float32, the difference of two log-SNRs near 10 has three digits or four.
    np.testing.assert_allclose(found, wanted, rtol=2e-3)


@pytest.mark.parametrize("kind", ["error", "variance"])
def test_it_trains_only_the_variance(kind: str) -> None:
    error, variance = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    gradient = jax.grad(lambda e, v: variance_bound(STAGE, TIME, e, v).sum(), argnums=0 if kind == "error" else 1)
    taught = np.asarray(gradient(error, variance)).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(taught, (STEPS > 0) & (kind == "variance"))


def test_the_bound_is_minimal_at_the_variance_of_the_error() -> None:
    """Without error, the minimum is q's variance, with a bound of 0; with a large error, a larger variance."""
    nothing, much = jnp.zeros(SHAPE), jnp.full(SHAPE, 2.0)
    exact = jnp.full(SHAPE, -1.0)
    np.testing.assert_allclose(variance_bound(STAGE, TIME, nothing, exact), 0.0, atol=1e-6)
    slope = jax.grad(lambda v: variance_bound(STAGE, TIME, much, v).sum())
    assert (slope(exact)[1:4] < 0).all()
