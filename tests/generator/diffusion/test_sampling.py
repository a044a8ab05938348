"""Schedules, predictions and thresholding against independent computations."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.config.cascade import Prediction, ScheduleKind, Thresholding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.thresholding import threshold


@settings(deadline=None)  # the first example compiles
@given(t=st.floats(0.01, 0.99))
def test_cosine_is_the_cosine(t: float) -> None:
    alpha, sigma = schedule.alpha_sigma(schedule.log_snr(ScheduleKind.COSINE, jnp.asarray(t)))
    assert float(alpha) == pytest.approx(np.cos(np.pi * t / 2), abs=1e-5)
    assert float(sigma) == pytest.approx(np.sin(np.pi * t / 2), abs=1e-5)


def test_linear_is_a_thousand_steps_of_beta() -> None:
    """Imagen's closed form, 10 t² for 0.1 t + 9.95 t², stays within 1.2 % of the product over DDPM's discrete steps."""
    product = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    t = np.arange(1, 1001) / 1000
    alpha, _ = schedule.alpha_sigma(schedule.log_snr(ScheduleKind.LINEAR, jnp.asarray(t)))
    np.testing.assert_allclose(np.asarray(alpha) ** 2, product, atol=0.012)


@pytest.mark.parametrize("kind", list(ScheduleKind))
def test_schedules_fall_and_stay_finite(kind: ScheduleKind) -> None:
    value = np.asarray(schedule.log_snr(kind, jnp.linspace(0, 1, 101)))
    assert np.isfinite(value).all()
    assert (np.diff(value) <= 0).all()


@pytest.mark.parametrize("kind", list(Prediction))
def test_a_perfect_prediction_gives_back_noise_and_picture(kind: Prediction) -> None:
    rng = np.random.default_rng(0)
    x_0, noise = (jnp.asarray(rng.standard_normal((3, 4, 4, 3)), jnp.float32) for _ in range(2))
    log_snr = jnp.asarray([-4.0, 0.0, 4.0])
    alpha, sigma = map(schedule.per_picture, schedule.alpha_sigma(log_snr))
    x_t = alpha * x_0 + sigma * noise
    epsilon = prediction.to_epsilon(kind, prediction.target(kind, x_0, noise, log_snr), x_t, log_snr)
    np.testing.assert_allclose(epsilon, noise, atol=2e-5)
    np.testing.assert_allclose(prediction.epsilon_to_x0(epsilon, x_t, log_snr), x_0, atol=2e-4)
    np.testing.assert_allclose(prediction.x0_to_epsilon(x_0, x_t, log_snr), noise, atol=2e-5)


def test_dynamic_thresholding_is_imagens() -> None:
    x_0 = (
        np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
        * np.array([0.1, 3.0])[:, None, None, None]
    )
    result = np.asarray(threshold(jnp.asarray(x_0, jnp.float32), Thresholding(percentile=0.9)))
    np.testing.assert_allclose(result[0], x_0[0], atol=1e-6)  # all of it lies within ±1: untouched
    s = np.quantile(np.abs(x_0[1]), 0.9)
    np.testing.assert_allclose(result[1], np.clip(x_0[1], -s, s) / s, atol=1e-5)
    plain = threshold(jnp.asarray(x_0), Thresholding(percentile=1.0, maximum=1.0))
    np.testing.assert_allclose(plain, np.clip(x_0, -1, 1), atol=1e-6)
