"""DPM-Solver++(2M), a second-order multi-step solver of the ODE that DDIM solves."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from reimagen_generator.diffusion.samplers.sampler import Batch, Images, Step
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PreviousPrediction:
    """The prediction of the step before; its log-SNR is -∞ if there was no such step."""

    x_0: Images
    log_snr: Batch


class DPMSolver:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2): x_0 is extrapolated from the last two predictions."""

    def initialize(self, x: Images) -> PreviousPrediction:
        """Return the carry of the first step, which has no step before."""
        return PreviousPrediction(jnp.zeros_like(x), jnp.full(x.shape[0], -jnp.inf, x.dtype))

    def step(self, carry: PreviousPrediction, step: Step) -> tuple[Images, PreviousPrediction]:
        """Return x_s."""
        return extrapolate(step.x_t, step, carry), PreviousPrediction(step.x_0, step.log_snr_t)


def extrapolate(x_t: Images, step: Step, before: PreviousPrediction) -> Images:
    """Return x_s = (σ_s / σ_t) x_t + α_s (1 - exp(-h)) D, where D = x_0 + (h / 2h') (x_0 - x_0').

    h' and x_0' are those of the step before. h is the difference of log(α / σ), half the log-SNR. The first step, and a
    step to the clean image, have D = x_0.
    """
    alpha_s, sigma_s = map(per_image, alpha_sigma(step.log_snr_s))
    _, sigma_t = map(per_image, alpha_sigma(step.log_snr_t))
    span = step.log_snr_s - step.log_snr_t
    first_order = jnp.isinf(span) | jnp.isinf(before.log_snr)
    ratio = jnp.where(first_order, 0.0, span / jnp.where(first_order, 1.0, step.log_snr_t - before.log_snr))
    x_0 = step.x_0 + per_image(ratio / 2.0) * (step.x_0 - before.x_0)
    return sigma_s / sigma_t * x_t - alpha_s * per_image(jnp.expm1(-span / 2.0)) * x_0
