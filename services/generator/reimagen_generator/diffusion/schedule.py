"""Variance-preserving noise schedules: x_t = α_t x_0 + σ_t ε with α_t² + σ_t² = 1, t in [0, 1].

A schedule is its log-SNR λ(t) = log(α_t² / σ_t²); α_t² = sigmoid(λ), σ_t² = sigmoid(-λ).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import ScheduleKind

_Any = Float[Array, "*any"]

MAXIMUM_LOG_SNR = 15.0
MINIMUM_LOG_SNR = -15.0


def log_snr(kind: ScheduleKind, t: _Any) -> _Any:
    """λ(t), clipped to ±15: the ends of both schedules are infinite or nearly so."""
    match kind:
        case ScheduleKind.COSINE:  # α_t = cos(πt/2), arXiv 2102.09672
            # tan's argument is kept off 0 and π/2, where its logarithm is infinite.
            value = -2.0 * jnp.log(jnp.tan(jnp.clip(t, 1e-5, 1 - 1e-5) * math.pi / 2))
        case ScheduleKind.LINEAR:  # β from 1e-4 to 0.02 in a thousand steps, in continuous time
            value = -jnp.log(jnp.expm1(1e-4 + 10.0 * t**2))
    return jnp.clip(value, MINIMUM_LOG_SNR, MAXIMUM_LOG_SNR)


def alpha_sigma(value: _Any) -> tuple[_Any, _Any]:
    """α and σ of a log-SNR."""
    return jnp.sqrt(jax.nn.sigmoid(value)), jnp.sqrt(jax.nn.sigmoid(-value))


def per_picture(value: Float[Array, " batch"]) -> Float[Array, "batch 1 1 1"]:
    """A number a picture, shaped to meet NHWC arrays."""
    return value[:, None, None, None]
