"""Samplers on a mixture whose score is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from reimagen_evaluation.mixture import Mixture
from reimagen_generator.config.cascade import SamplerKind, ScheduleKind
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.samplers.registry import build_sampler
from reimagen_generator.diffusion.samplers.row_sampler import RowSampler, sampler_codes
from reimagen_generator.diffusion.samplers.sampler import Images, Step

HIGH, LOW = 6.0, -6.0


def solve(kind: SamplerKind, x: Images, steps: int | Array) -> Images:
    """Return the image at the log-SNR 6 from `x` at -6, in steps of uneven length."""
    sampler, mixture = build_sampler(kind), Mixture.example()
    keep = jnp.ones(x.shape[0], bool)

    def log_snr(step: Array) -> Array:
        return jnp.full(x.shape[0], LOW + (HIGH - LOW) * (step / steps) ** 1.3, x.dtype)

    def body(step: Array, state: tuple[Images, object]) -> tuple[Images, object]:
        x, carry = state
        log_snr_t = log_snr(step)
        epsilon = mixture.epsilon(x, log_snr_t, keep, ~keep)
        x_0 = prediction.epsilon_to_x0(epsilon, x, log_snr_t)
        return sampler.step(carry, Step(x, x_0, epsilon, log_snr_t, log_snr(step + 1), jnp.zeros_like(x)))

    solved: Images = jax.lax.fori_loop(0, steps, body, (x, sampler.initialize(x)))[0]
    return solved


@pytest.mark.parametrize(
    ("kind", "order"), [(SamplerKind.DDIM, 1.0), (SamplerKind.DPM_SOLVER, 2.0), (SamplerKind.UNIPC, 3.0)]
)
def test_deterministic_samplers_converge_at_their_order(kind: SamplerKind, order: float) -> None:
    """UniC raises the order of what it corrects by one (arXiv 2302.04867, theorem 3.1)."""
    counts = np.array([64, 128, 256])
    with jax.enable_x64(True):  # UniPC's errors are below single precision
        x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 4, 3)))
        compiled = jax.jit(solve, static_argnums=0)
        exact = compiled(SamplerKind.UNIPC, x, 2048)
        errors = [float(jnp.sqrt(((compiled(kind, x, steps) - exact) ** 2).mean())) for steps in counts]
    slope, _ = np.polyfit(np.log(counts), np.log(errors), 1)
    assert -slope == pytest.approx(order, abs=0.15)


def test_rows_of_different_samplers_take_their_own_steps_together() -> None:
    kinds = list(SamplerKind)
    shape = (1, 4, 4, 3)
    together, codes = RowSampler(), sampler_codes(kinds)
    start = images(0, (len(kinds), 4, 4, 3))
    x, carry = start, together.initialize(start)
    alone = [(start[row : row + 1], build_sampler(kind)) for row, kind in enumerate(kinds)]
    rows = [(one, sampler, sampler.initialize(one)) for one, sampler in alone]
    # Each row has a schedule of its own; the last step leads to the clean image.
    log_snrs = [[-4.0 - row, -1.0, 2.0 + row, np.inf] for row in range(len(kinds))]
    for step in range(3):
        x_0, noise = images(10 + step, (len(kinds), 4, 4, 3)), images(20 + step, (len(kinds), 4, 4, 3))

        def taken(rows: slice, x: Images, x_0: Images = x_0, noise: Images = noise, step: int = step) -> Step:
            log_snr_t, log_snr_s = (jnp.asarray([each[at] for each in log_snrs[rows]]) for at in (step, step + 1))
            epsilon = prediction.x0_to_epsilon(x_0[rows], x, log_snr_t)
            return Step(x, x_0[rows], epsilon, log_snr_t, log_snr_s, noise[rows])

        x, carry = together.step(carry, taken(slice(None), x), codes)
        advanced = []
        for row, (one, sampler, before) in enumerate(rows):
            after, memory = sampler.step(before, taken(slice(row, row + 1), one))
            assert after.shape == shape
            np.testing.assert_allclose(x[row : row + 1], after, atol=1e-5)
            advanced.append((after, sampler, memory))
        rows = advanced
    assert len({np.asarray(row).tobytes() for row in np.asarray(x)}) == len(kinds)


def images(seed: int, shape: tuple[int, ...] = (2, 4, 4, 3)) -> Images:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("kind", list(SamplerKind))
def test_the_last_step_returns_x_0(kind: SamplerKind) -> None:
    """The step is the first, the second or the third, with any learned variance."""
    sampler = build_sampler(kind)
    carry, advance = sampler.initialize(images(0)), jax.jit(sampler.step)
    for number, low in enumerate((-4.0, -1.0, 2.0)):
        x_t, x_0, epsilon, noise = (images(4 * number + i) for i in range(4))
        log_snr = jnp.full(2, low)

        def step(log_snr_s: float, variance: Images | None = None) -> Step:
            return Step(x_t, x_0, epsilon, log_snr, jnp.full(2, log_snr_s), noise, variance)  # noqa: B023

        for variance in (None, jnp.ones_like(x_t), -2.0 * jnp.ones_like(x_t)):
            result, _ = advance(carry, step(np.inf, variance))
            np.testing.assert_array_equal(result, x_0)
        _, carry = advance(carry, step(low + 3.0))


def ancestral(log_snr_t: float, log_snr_s: float, variance: Images | None) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of DDPM's step, computed from steps with two noises."""
    x_t, x_0 = images(0), images(1)
    results = [
        build_sampler(SamplerKind.DDPM).step(
            None, Step(x_t, x_0, x_t, jnp.full(2, log_snr_t), jnp.full(2, log_snr_s), jnp.full_like(x_t, n), variance)
        )[0]
        for n in (0.0, 1.0)
    ]
    return np.asarray(results[0]), np.asarray(results[1] - results[0])


def test_ancestral_steps_sample_ddpms_posterior() -> None:
    """The step equals equations 6 and 7 of DDPM (arXiv 2006.11239), with its two bounds on a learned variance."""
    log_snr_t, log_snr_s = -1.0, 0.5
    bar_t, bar_s = 1 / (1 + np.exp(-log_snr_t)), 1 / (1 + np.exp(-log_snr_s))
    beta = 1 - bar_t / bar_s
    posterior = (1 - bar_s) / (1 - bar_t) * beta
    mean = (np.sqrt(bar_s) * beta * images(1) + np.sqrt(1 - beta) * (1 - bar_s) * images(0)) / (1 - bar_t)
    for variance, expected in ((None, posterior), (-1.0, posterior), (1.0, beta), (0.0, np.sqrt(beta * posterior))):
        learned = None if variance is None else jnp.full_like(images(0), variance)
        drawn_mean, deviation = ancestral(log_snr_t, log_snr_s, learned)
        np.testing.assert_allclose(drawn_mean, mean, atol=1e-6)
        np.testing.assert_allclose(deviation, np.sqrt(expected), rtol=1e-5)


@pytest.mark.parametrize("kind", list(SamplerKind))
def test_samplers_draw_the_mean_and_covariance_of_the_data(kind: SamplerKind) -> None:
    """10,000 points of the components that fit the text: their means' standard error is below 0.004."""
    sampler, mixture, steps = build_sampler(kind), Mixture.example(), 100
    log_snr = schedule.log_snr(ScheduleKind.COSINE, 1.0 - jnp.arange(steps + 1) / steps).at[-1].set(jnp.inf)
    keep = jnp.ones(1, bool)

    def body(state: tuple[Images, object], at: tuple[Array, Array]) -> tuple[tuple[Images, object], None]:
        (x, carry), (step, pair) = state, at
        log_snr_t, log_snr_s = pair[:1], pair[1:]
        epsilon = mixture.epsilon(x, log_snr_t, keep, ~keep)
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), step), x.shape)
        x_0 = prediction.epsilon_to_x0(epsilon, x, log_snr_t)
        return sampler.step(carry, Step(x, x_0, epsilon, log_snr_t, log_snr_s, noise)), None

    @jax.jit
    def draw(x: Images) -> Images:
        pairs = jnp.stack([log_snr[:-1], log_snr[1:]], axis=1)
        return jax.lax.scan(body, (x, sampler.initialize(x)), (jnp.arange(steps), pairs))[0][0]

    points = np.asarray(draw(jax.random.normal(jax.random.key(0), (1, 100, 100, 3)))).reshape(-1, 3)
    mean, covariance = mixture.moments(text=True, neighbors=False)
    np.testing.assert_allclose(points.mean(axis=0), mean, atol=0.015)
    np.testing.assert_allclose(np.cov(points, rowvar=False), covariance, atol=0.01)
