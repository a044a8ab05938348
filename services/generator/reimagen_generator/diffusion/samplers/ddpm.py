"""DDPM, the ancestral sampler: each step draws from q(x_s | x_t, x_0)."""

import jax
import jax.numpy as jnp

from reimagen_generator.diffusion.samplers.sampler import Images, Step
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image


class DDPM:
    """DDPM with the mean and variance of arXiv 2107.00630, appendix A.4, or with a learned variance.

    With e = exp(λ_t - λ_s): mean = e (α_s / α_t) x_t + (1 - e) α_s x_0, variance = (1 - e) σ_s². This is the variance
    for data that are a single point; for data that are noise it is (1 - e) σ_t², DDPM's β. A learned variance
    interpolates between their logarithms (Improved DDPM, arXiv 2102.09672, eq. 15).
    """

    def initialize(self, x: Images) -> None:
        """Return no carry, since a step does not depend on others."""

    def step(self, carry: None, step: Step) -> tuple[Images, None]:
        """Return x_s."""
        alpha_t, _ = map(per_image, alpha_sigma(step.log_snr_t))
        alpha_s, sigma_s = map(per_image, alpha_sigma(step.log_snr_s))
        e = per_image(jnp.exp(step.log_snr_t - step.log_snr_s))
        rest = per_image(-jnp.expm1(step.log_snr_t - step.log_snr_s))
        mean = e * (alpha_s / alpha_t) * step.x_t + rest * alpha_s * step.x_0
        deviation = jnp.sqrt(rest) * (sigma_s if step.variance is None else _learned(step, step.variance))
        return mean + deviation * step.noise, None


def _learned(step: Step, variance: Images) -> Images:
    """Return the geometric mean of σ_s and σ_t, with weight (variance + 1) / 2 of σ_t; 0 for a clean image."""
    upper, lower = (per_image(-jax.nn.softplus(log_snr)) for log_snr in (step.log_snr_t, step.log_snr_s))
    share = (variance + 1.0) / 2.0
    clean = jnp.isinf(lower)
    log_variance = share * upper + (1.0 - share) * jnp.where(clean, 0.0, lower)
    return jnp.where(clean, 0.0, jnp.exp(0.5 * log_variance))
