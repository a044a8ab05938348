"""UniPC of order 2: DPM-Solver++(2M) with a correction of every step after the next prediction."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from reimagen_generator.diffusion.samplers.dpm_solver import PreviousPrediction, extrapolate
from reimagen_generator.diffusion.samplers.sampler import Batch, Images, Step
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """The corrected images at the start of the step before, and the predictions of the last two steps."""

    x: Images
    last: PreviousPrediction
    last_but_one: PreviousPrediction


class UniPC:
    """UniPC-2 (arXiv 2302.04867, algorithms 5 to 8) for predictions of x_0, with B(h) = exp(h) - 1.

    With this B(h), the predictor UniP-2 is DPM-Solver++(2M). The corrector UniC-2 needs no evaluation: it repeats the
    step before with the prediction that has since been made at its end.
    """

    def initialize(self, x: Images) -> History:
        """Return the carry of the first step, which has no steps before."""
        empty = PreviousPrediction(jnp.zeros_like(x), jnp.full(x.shape[0], -jnp.inf, x.dtype))
        return History(x, empty, empty)

    def step(self, carry: History, step: Step) -> tuple[Images, History]:
        """Return x_s."""
        x_t = _correct(carry, step)
        here = PreviousPrediction(step.x_0, step.log_snr_t)
        return extrapolate(x_t, step, carry.last), History(x_t, here, carry.last)


def _correct(history: History, step: Step) -> Images:
    """Return the corrected x_t, from the image x_r of the step before and the predictions at, before and after it.

    x_t = (σ_t / σ_r) x_r + α_t (1 - exp(-h)) (x_0(r) + ρ_1 (x_0(q) - x_0(r)) / r_1 + ρ_2 (x_0(t) - x_0(r))), where q is
    the step before r, r_1 = (λ_q - λ_r) / (λ_t - λ_r), and ρ solves ρ_1 + ρ_2 = b_1 and r_1 ρ_1 + ρ_2 = b_2. Without q,
    ρ_1 = 0 and ρ_2 = 1/2.
    """
    last, before = history.last, history.last_but_one
    first, second = jnp.isinf(last.log_snr), jnp.isinf(before.log_snr)
    span = jnp.where(first, 1.0, step.log_snr_t - last.log_snr)
    r_1 = jnp.where(second, -1.0, (before.log_snr - jnp.where(first, 0.0, last.log_snr)) / span)
    b_1, b_2 = _b(span / 2.0)
    rho_1 = jnp.where(second, 0.0, (b_1 - b_2) / (1.0 - r_1))
    rho_2 = jnp.where(second, 0.5, b_1 - rho_1)
    alpha_t, sigma_t = map(per_image, alpha_sigma(step.log_snr_t))
    _, sigma_r = map(per_image, alpha_sigma(last.log_snr))
    x_0 = last.x_0 + per_image(rho_1 / r_1) * (before.x_0 - last.x_0) + per_image(rho_2) * (step.x_0 - last.x_0)
    corrected = sigma_t / sigma_r * history.x - alpha_t * per_image(jnp.expm1(-span / 2.0)) * x_0
    return jnp.where(per_image(first), step.x_t, corrected)


def _b(h: Batch) -> tuple[Batch, Batch]:
    """Return b_n = n! φ_{n+1}(z) z / (exp(z) - 1) for n = 1 and 2, at z = -h; φ_{n+1}(z) = (φ_n(z) - 1 / n!) / z.

    Near z = 0, where the differences cancel, φ_{n+1}(z) = Σ z^k / (k + n + 1)!.
    """
    z = -h
    small = jnp.abs(z) < 0.25
    safe = jnp.where(small, -1.0, z)
    phi_1 = jnp.expm1(z) / jnp.where(z == 0, 1.0, z)
    phi_2 = jnp.where(small, _series(z, 2), (jnp.expm1(safe) / safe - 1.0) / safe)
    phi_3 = jnp.where(small, _series(z, 3), (phi_2 - 0.5) / safe)
    return phi_2 / phi_1, 2.0 * phi_3 / phi_1


def _series(z: Batch, n: int) -> Batch:
    """Return the sum of the first ten terms of φ_n."""
    total = jnp.zeros_like(z)
    for k in reversed(range(10)):
        total = total * z + 1.0 / math.factorial(k + n)
    return total
