"""Variance-preserving noise schedules: x_t = α_t x_0 + σ_t ε with α_t² + σ_t² = 1, t in [0, 1].

A schedule is defined by its log-SNR λ(t) = log(α_t² / σ_t²); α_t² = sigmoid(λ), σ_t² = sigmoid(-λ).

A stage can shift its schedule to another image size by λ + 2 log(size of the schedule / size), since a larger image
retains more of its content under the same noise (simple diffusion, arXiv 2301.11093, section 3.1).
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from reimagen_generator.config.cascade import ScheduleKind, StageConfig

_Any = Float[Array, "*any"]

MAXIMUM_LOG_SNR = 15.0
MINIMUM_LOG_SNR = -15.0
TIMESTEPS = 1000


def log_snr(kind: ScheduleKind, t: _Any, shift: float = 0.0) -> _Any:
    """Return λ(t) + `shift`. For continuous schedules, λ is clipped to ±15: their ends are infinite or nearly so."""
    match kind:
        case ScheduleKind.COSINE:  # α_t = cos(πt/2), arXiv 2102.09672
            # The argument of tan stays away from 0 and π/2, where the logarithm is infinite.
            value = -2.0 * jnp.log(jnp.tan(jnp.clip(t, 1e-5, 1 - 1e-5) * math.pi / 2))
        case ScheduleKind.LINEAR:  # β from 1e-4 to 0.02 in a thousand steps, in continuous time
            value = -jnp.log(jnp.expm1(1e-4 + 10.0 * t**2))
        case ScheduleKind.COSINE_BETAS:
            return jnp.asarray(_cosine_betas(), t.dtype)[_timestep(t)] + shift
    return jnp.clip(value, MINIMUM_LOG_SNR, MAXIMUM_LOG_SNR) + shift


def nearest(kind: ScheduleKind, t: _Any) -> _Any:
    """Return the nearest time to t that the schedule contains: the integer timestep n is the time n / 1000."""
    return _timestep(t) / TIMESTEPS if kind is ScheduleKind.COSINE_BETAS else t


def _timestep(t: _Any) -> Int[Array, "*any"]:
    return jnp.clip(jnp.round(t * TIMESTEPS), 0, TIMESTEPS - 1).astype(int)


@cache
def _cosine_betas() -> Float[np.ndarray, " timesteps"]:
    """Return λ of the thousand steps of Improved DDPM's cosine schedule (arXiv 2102.09672, eq. 17), as in DeepFloyd IF.

    Step n adds noise with β_n = 1 - f(n + 1) / f(n), at most 0.999, where f(n) = cos²(π/2 (n / 1000 + 0.008) / 1.008).
    """
    squared_cosine = np.cos((np.arange(TIMESTEPS + 1) / TIMESTEPS + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = np.minimum(1.0 - squared_cosine[1:] / squared_cosine[:-1], 0.999)
    log_alpha_squared = np.cumsum(np.log1p(-betas))
    value: Float[np.ndarray, " timesteps"] = log_alpha_squared - np.log(-np.expm1(log_alpha_squared))
    return value


@dataclass(frozen=True)
class SamplingSchedule:
    """The decreasing times at which a stage evaluates its network, and the log-SNRs between which its steps go.

    Every schedule ends at the clean image: the last log-SNR is infinite, so the last step returns x_0 itself.
    """

    time: Float[np.ndarray, " steps"]
    log_snr: Float[np.ndarray, " steps+1"]


@lru_cache(maxsize=256)
def sampling_schedule(stage: StageConfig) -> SamplingSchedule:
    """Return a stage's steps: uniform in t, or over the integer timesteps of its respacing.

    Cached, because computing it would wait for the steps that the device is taking.
    """
    if stage.schedule is ScheduleKind.COSINE_BETAS:
        time = timesteps(stage.timestep_respacing or (stage.steps,)) / TIMESTEPS
    else:
        time = 1.0 - np.arange(stage.steps) / stage.steps
    noisy = np.asarray(_compiled_log_snr(stage.schedule, jnp.asarray(time), stage.log_snr_shift))
    return SamplingSchedule(time.astype(noisy.dtype), np.append(noisy, np.asarray(np.inf, noisy.dtype)))


# Compiled, as in training: the uncompiled function rounds differently.
_compiled_log_snr = jax.jit(log_snr, static_argnums=(0, 2))


def timesteps(respacing: tuple[int, ...]) -> Int[np.ndarray, " steps"]:
    """Return decreasing integer timesteps: from each of several equal parts of 0 to 999, its number evenly, with ends.

    This is the respacing of Improved DDPM (arXiv 2102.09672, section 4) by parts, the cleanest first. DeepFloyd IF's
    sampling is published in this form: its "smart50" is 10, 6, 4, 3, 2, 2, 3, 4, 6, 10.
    """
    parts = np.array_split(np.arange(TIMESTEPS), len(respacing))
    # The stride is added, not multiplied: at halves, the published timesteps have the rounding of the sum.
    strides = [(len(part) - 1) / max(count - 1, 1) for part, count in zip(parts, respacing, strict=True)]
    selected = [
        part[np.cumsum([0.0] + [stride] * (count - 1))[:count].round().astype(int)]
        for part, count, stride in zip(parts, respacing, strides, strict=True)
    ]
    return np.concatenate(selected)[::-1]


def alpha_sigma(value: _Any) -> tuple[_Any, _Any]:
    """Return α and σ of a log-SNR."""
    return jnp.sqrt(jax.nn.sigmoid(value)), jnp.sqrt(jax.nn.sigmoid(-value))


def per_image(value: Shaped[Array, " batch"]) -> Shaped[Array, "batch 1 1 1"]:
    """Return a value per image, shaped for NHWC arrays."""
    return value[:, None, None, None]
