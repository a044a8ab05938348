"""Samplers: one step from log-SNR λ_t to the higher λ_s, given the predicted x_0 and ε."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import SamplerKind, Thresholding
from reimagen_generator.diffusion.schedule import alpha_sigma, per_picture

_Images = Float[Array, "batch height width channels"]
_Batch = Float[Array, " batch"]


def step(
    kind: SamplerKind,
    x_t: _Images,
    x_0: _Images,
    epsilon: _Images,
    log_snr_t: _Batch,
    log_snr_s: _Batch,
    noise: _Images,
) -> _Images:
    """x_s. `x_0` and `epsilon` are one prediction, consistent with `x_t`; `noise` is used by DDPM alone."""
    match kind:
        case SamplerKind.DDIM:
            return _ddim(x_0, epsilon, log_snr_s)
        case SamplerKind.DDPM:
            return _ddpm(x_t, x_0, log_snr_t, log_snr_s, noise)


def _ddim(x_0: _Images, epsilon: _Images, log_snr_s: _Batch) -> _Images:
    """DDIM with η = 0 (arXiv 2010.02502): x_s = α_s x_0 + σ_s ε."""
    alpha, sigma = map(per_picture, alpha_sigma(log_snr_s))
    return alpha * x_0 + sigma * epsilon


def _ddpm(x_t: _Images, x_0: _Images, log_snr_t: _Batch, log_snr_s: _Batch, noise: _Images) -> _Images:
    """A draw from q(x_s | x_t, x_0) (arXiv 2107.00630, appendix A.4), the ancestral sampler.

    With e = exp(λ_t - λ_s): mean = e (α_s / α_t) x_t + (1 - e) α_s x_0, variance = σ_s² (1 - e).
    """
    alpha_t, _ = map(per_picture, alpha_sigma(log_snr_t))
    alpha_s, sigma_s = map(per_picture, alpha_sigma(log_snr_s))
    e = per_picture(jnp.exp(log_snr_t - log_snr_s))
    mean = e * (alpha_s / alpha_t) * x_t + (1 - e) * alpha_s * x_0
    return mean + sigma_s * jnp.sqrt(jnp.maximum(1 - e, 0.0)) * noise


def threshold(x_0: _Images, thresholding: Thresholding) -> _Images:
    """Dynamic thresholding (Imagen, section 2.3): s = max(1, quantile of |x_0|), clip to ±s, divide by s."""
    if thresholding.maximum == 1.0:  # plain clipping needs no quantile, a sort of the whole picture
        return jnp.clip(x_0, -1.0, 1.0)
    flat = jnp.abs(x_0).reshape(x_0.shape[0], -1)
    divisor = jnp.clip(jax.lax.map(lambda p: jnp.quantile(p, thresholding.percentile), flat), 1.0, thresholding.maximum)
    divisor = per_picture(divisor)
    return jnp.clip(x_0, -divisor, divisor) / divisor
