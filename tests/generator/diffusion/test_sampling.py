"""Schedules, predictions and thresholding against independent computations."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.config.cascade import Guidance, Prediction, ScheduleKind, StageConfig, Strategy, Thresholding
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.thresholding import threshold


@settings(deadline=None)  # the first example compiles
@given(t=st.floats(0.01, 0.99))
def test_the_cosine_schedule_equals_its_formula(t: float) -> None:
    alpha, sigma = schedule.alpha_sigma(schedule.log_snr(ScheduleKind.COSINE, jnp.asarray(t)))
    assert float(alpha) == pytest.approx(np.cos(np.pi * t / 2), abs=1e-5)
    assert float(sigma) == pytest.approx(np.sin(np.pi * t / 2), abs=1e-5)


def test_the_linear_schedule_equals_a_thousand_steps_of_beta() -> None:
    """Imagen's closed form, 10 t² for 0.1 t + 9.95 t², stays within 1.2 % of the product over DDPM's discrete steps."""
    product = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    t = np.arange(1, 1001) / 1000
    alpha, _ = schedule.alpha_sigma(schedule.log_snr(ScheduleKind.LINEAR, jnp.asarray(t)))
    np.testing.assert_allclose(np.asarray(alpha) ** 2, product, atol=0.012)


def test_cosine_betas_equal_improved_ddpms() -> None:
    """The product of 1 - β over integer timesteps (arXiv 2102.09672, eq. 17); rounding must not leave the integers."""
    squared_cosine = [math.cos((n / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for n in range(1001)]
    product, expected = 1.0, []
    for n in range(1000):
        product *= 1 - min(1 - squared_cosine[n + 1] / squared_cosine[n], 0.999)
        expected.append(math.log(product / (1 - product)))
    time = jnp.arange(1000) / 1000
    value = schedule.log_snr(ScheduleKind.COSINE_BETAS, time)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    between = time + jax.random.uniform(jax.random.key(0), time.shape, minval=-4e-4, maxval=4e-4)
    np.testing.assert_array_equal(schedule.log_snr(ScheduleKind.COSINE_BETAS, between), value)
    np.testing.assert_array_equal(schedule.nearest(ScheduleKind.COSINE_BETAS, between), time)
    assert float(schedule.nearest(ScheduleKind.COSINE_BETAS, jnp.asarray(1.0))) == pytest.approx(0.999)
    np.testing.assert_array_equal(schedule.nearest(ScheduleKind.COSINE, between), between)


def stage(**changes: Any) -> StageConfig:
    return StageConfig.model_validate({**TINY.stages[0].model_dump(), **changes})


@pytest.mark.parametrize("kind", list(ScheduleKind))
def test_a_sampling_schedule_ends_at_the_clean_image(kind: ScheduleKind) -> None:
    grid = schedule.sampling_schedule(stage(schedule=kind, steps=40))
    assert (np.diff(grid.time) < 0).all()
    assert (np.diff(grid.log_snr) > 0).all()
    assert np.isposinf(grid.log_snr[-1])
    assert len(grid.log_snr) == len(grid.time) + 1 == 41
    assert grid.time[0] == pytest.approx(1.0, abs=0.001)


def test_timestep_respacing_equals_deepfloyd_ifs() -> None:
    """DeepFloyd IF's "smart27", as published with its weights."""
    published = [999, 976, 952, 928, 905, 882, 858, 857, 810, 762, 715, 714, 572, 429, 428, 286, 285, 238, 190, 143]
    published += [142, 118, 95, 71, 47, 24, 0]
    assert schedule.timesteps((7, 4, 2, 1, 2, 4, 7)).tolist() == published
    grid = schedule.sampling_schedule(
        stage(schedule=ScheduleKind.COSINE_BETAS, steps=27, timestep_respacing=(7, 4, 2, 1, 2, 4, 7))
    )
    np.testing.assert_allclose(grid.time * 1000, published, rtol=1e-6)
    assert schedule.timesteps((1000,)).tolist() == list(range(999, -1, -1))


def test_the_shifted_log_snr_equals_that_of_the_averaged_smaller_image() -> None:
    """Simple diffusion, section 3.1: the mean of s² pixels has 1/s² of the variance of the noise."""
    scale, t = 4, jnp.linspace(0.1, 0.9, 9)
    shifted = stage(size=64, schedule_size=16)
    value = schedule.log_snr(shifted.schedule, t, shifted.log_snr_shift)
    alpha, sigma = schedule.alpha_sigma(value)
    signal_to_noise = (alpha / (sigma / scale)) ** 2
    np.testing.assert_allclose(signal_to_noise, jnp.exp(schedule.log_snr(shifted.schedule, t)), rtol=1e-4)
    assert stage().log_snr_shift == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timestep_respacing": (1, 1)}, "timestep_respacing: must be null.* only cosine-betas has"),
        (
            {"schedule": "cosine-betas", "steps": 3, "timestep_respacing": (1, 1)},
            "timestep_respacing: must add up to steps, 3, got 2",
        ),
        (
            {"schedule": "cosine-betas", "steps": 501, "timestep_respacing": (501, 0)},
            "timestep_respacing: each of 2 parts can have 500 steps",
        ),
        ({"sampler": "unipc", "guidance": {"text_weight": 2.0}}, r"guidance\.strategy: interleaved changes"),
        ({"steps": 1001}, "steps"),
    ],
)
def test_impossible_sampling_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage(**changes)


def test_a_multi_step_sampler_accepts_guidance_without_interleaving() -> None:
    unipc = stage(sampler="unipc")
    for guidance in (Guidance(strategy=Strategy.WEIGHTED, text_weight=2.0), Guidance()):
        assert unipc.guidance_conflict(guidance) == ""
    assert "interleaved" in unipc.guidance_conflict(Guidance(neighbor_weight=2.0))


@pytest.mark.parametrize("kind", list(ScheduleKind))
def test_schedules_decrease_and_stay_finite(kind: ScheduleKind) -> None:
    value = np.asarray(schedule.log_snr(kind, jnp.linspace(0, 1, 101)))
    assert np.isfinite(value).all()
    assert (np.diff(value) <= 0).all()


@pytest.mark.parametrize("kind", list(Prediction))
def test_a_perfect_prediction_recovers_noise_and_image(kind: Prediction) -> None:
    rng = np.random.default_rng(0)
    x_0, noise = (jnp.asarray(rng.standard_normal((3, 4, 4, 3)), jnp.float32) for _ in range(2))
    log_snr = jnp.asarray([-4.0, 0.0, 4.0])
    alpha, sigma = map(schedule.per_image, schedule.alpha_sigma(log_snr))
    x_t = alpha * x_0 + sigma * noise
    epsilon = prediction.to_epsilon(kind, prediction.target(kind, x_0, noise, log_snr), x_t, log_snr)
    np.testing.assert_allclose(epsilon, noise, atol=2e-5)
    np.testing.assert_allclose(prediction.epsilon_to_x0(epsilon, x_t, log_snr), x_0, atol=2e-4)
    np.testing.assert_allclose(prediction.x0_to_epsilon(x_0, x_t, log_snr), noise, atol=2e-5)


def test_dynamic_thresholding_equals_imagens() -> None:
    x_0 = (
        np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
        * np.array([0.1, 3.0])[:, None, None, None]
    )
    result = np.asarray(threshold(jnp.asarray(x_0, jnp.float32), Thresholding(percentile=0.9)))
    np.testing.assert_allclose(result[0], x_0[0], atol=1e-6)  # all of it is within ±1: unchanged
    s = np.quantile(np.abs(x_0[1]), 0.9)
    np.testing.assert_allclose(result[1], np.clip(x_0[1], -s, s) / s, atol=1e-5)
    plain = threshold(jnp.asarray(x_0), Thresholding(percentile=1.0, maximum=1.0))
    np.testing.assert_allclose(plain, np.clip(x_0, -1, 1), atol=1e-6)
