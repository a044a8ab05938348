"""Conversions between predictions: ε, v = α ε - σ x_0 (arXiv 2202.00512), and x_0. Each determines the others."""

from jaxtyping import Array, Float

from reimagen_generator.config.cascade import Prediction
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image

_Images = Float[Array, "batch height width channels"]


def to_epsilon(kind: Prediction, output: _Images, x_t: _Images, log_snr: Float[Array, " batch"]) -> _Images:
    """Return ε of a network's output."""
    alpha, sigma = map(per_image, alpha_sigma(log_snr))
    match kind:
        case Prediction.EPSILON:
            return output
        case Prediction.V:
            return alpha * output + sigma * x_t
        case Prediction.X0:
            return (x_t - alpha * output) / sigma


def target(kind: Prediction, x_0: _Images, epsilon: _Images, log_snr: Float[Array, " batch"]) -> _Images:
    """Return the exact target of a network's output."""
    alpha, sigma = map(per_image, alpha_sigma(log_snr))
    match kind:
        case Prediction.EPSILON:
            return epsilon
        case Prediction.V:
            return alpha * epsilon - sigma * x_0
        case Prediction.X0:
            return x_0


def epsilon_to_x0(epsilon: _Images, x_t: _Images, log_snr: Float[Array, " batch"]) -> _Images:
    """Return x_0 = (x_t - σ ε) / α."""
    alpha, sigma = map(per_image, alpha_sigma(log_snr))
    return (x_t - sigma * epsilon) / alpha


def x0_to_epsilon(x_0: _Images, x_t: _Images, log_snr: Float[Array, " batch"]) -> _Images:
    """Return ε = (x_t - α x_0) / σ."""
    alpha, sigma = map(per_image, alpha_sigma(log_snr))
    return (x_t - alpha * x_0) / sigma
