"""The loss of a learned variance: the variational bound of Improved DDPM (arXiv 2102.09672, sections 3.1 and 3.4)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.diffusion import schedule

_Images = Float[Array, "rows height width channels"]


def variance_bound(
    stage: StageConfig, time: Float[Array, " rows"], error: _Images, variance: _Images
) -> Float[Array, " rows"]:
    """Return L_vlb of each row, estimated by one of its thousand terms, with the weight 0.001 of the hybrid loss.

    A term is KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)), in bits per number, of the step from t to s, one timestep cleaner.
    Let r = log(σ_p² / σ_q²), the network's share of log(σ_t² / σ_s²). The difference of the means is that of the
    predictions, so the term is ½ (r + e^-r - 1 + e^-r (e^(λ_s - λ_t) - 1) (ε - ε')²). The first timestep's term is
    omitted: a step to a clean image draws no noise.

    Args:
        time: t, a timestep of the schedule.
        error: ε' - ε. It gets no gradient, since the bound trains only the variance.
        variance: The network's output, from -1 for σ_q² to 1 for the step's β.
    """
    cleaner = time - 1.0 / schedule.TIMESTEPS
    first = cleaner < -0.5 / schedule.TIMESTEPS
    log_snr_t, log_snr_s = (
        schedule.log_snr(stage.schedule, jnp.maximum(t, 0.0), stage.log_snr_shift) for t in (time, cleaner)
    )
    widest = jax.nn.softplus(log_snr_s) - jax.nn.softplus(log_snr_t)
    ratio = (variance + 1.0) / 2.0 * schedule.per_image(widest)
    means = schedule.per_image(jnp.expm1(log_snr_s - log_snr_t)) * jax.lax.stop_gradient(error) ** 2
    divergence = 0.5 * (ratio + jnp.expm1(-ratio) + jnp.exp(-ratio) * means)
    return jnp.where(first, 0.0, divergence.mean(axis=(1, 2, 3)) / jnp.log(2.0))
