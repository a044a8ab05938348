"""Samplers compared with diffusers' schedulers: whole trajectories from the same noise, with an exact model.

diffusers counts time in integers and represents a schedule by its products of α²; ours use the same values.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from diffusers.pipelines.deepfloyd_if import timesteps as published
from diffusers.schedulers import scheduling_ddpm
from jaxtyping import Float

from parity.compare import relative_error
from reimagen_evaluation.mixture import POINTS, Mixture
from reimagen_generator.config.cascade import Prediction, SamplerKind, ScheduleKind, StageConfig, Thresholding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.samplers.registry import build_sampler
from reimagen_generator.diffusion.samplers.sampler import Step
from reimagen_generator.diffusion.thresholding import threshold

_Images = Float[np.ndarray, "batch height width channels"]

SHAPE = (2, 8, 8, 3)
NAMES = {Prediction.EPSILON: "epsilon", Prediction.V: "v_prediction", Prediction.X0: "sample"}
# The means are outside of [-1, 1], so that thresholding has an effect.
MIXTURE = Mixture.example()
MIXTURE = replace(MIXTURE, means=3.0 * MIXTURE.means)
SECTIONS = {
    "fast27": (10, 10, 3, 2, 2),
    "smart27": (7, 4, 2, 1, 2, 4, 7),
    "smart50": (10, 6, 4, 3, 2, 2, 3, 4, 6, 10),
    "smart100": (1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10, 13),
    "smart185": (1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20),
    "super27": (1, 1, 1, 1, 1, 1, 1, 2, 5, 13),
    "super40": (2, 2, 2, 2, 2, 2, 3, 4, 6, 15),
    "super100": (4, 4, 6, 6, 8, 8, 10, 10, 14, 30),
}


@dataclass(frozen=True)
class Case:
    """One of our samplers, and the scheduler with which it must agree."""

    sampler: SamplerKind
    scheduler: Any
    kind: Prediction = Prediction.EPSILON
    betas: str = "squaredcos_cap_v2"
    options: dict[str, Any] = field(default_factory=dict)
    step_options: dict[str, Any] = field(default_factory=dict)


CLIPPED = {"use_clipped_model_output": True}  # as our DDIM does: ε is consistent with the thresholded x_0
SMALL, LEARNED = {"variance_type": "fixed_small"}, {"variance_type": "learned_range"}
CASES = [
    Case(SamplerKind.DDPM, DDPMScheduler, options=LEARNED),
    Case(SamplerKind.DDPM, DDPMScheduler, Prediction.V, "linear", SMALL),
    Case(SamplerKind.DDIM, DDIMScheduler, step_options=CLIPPED),
    Case(SamplerKind.DDIM, DDIMScheduler, Prediction.X0, "linear", step_options=CLIPPED),
    Case(SamplerKind.DPM_SOLVER, DPMSolverMultistepScheduler),
    Case(SamplerKind.DPM_SOLVER, DPMSolverMultistepScheduler, Prediction.V, "linear"),
    Case(SamplerKind.UNIPC, UniPCMultistepScheduler),
    Case(SamplerKind.UNIPC, UniPCMultistepScheduler, Prediction.X0, "linear"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.sampler}-{case.kind}-{case.betas}")
def test_trajectories_equal_diffusers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = scheduler(case)
    theirs.set_timesteps(25)
    products = theirs.alphas_cumprod.numpy().astype(np.float64)[theirs.timesteps.numpy()]
    compare(case, theirs, np.append(np.log(products / (1 - products)), np.inf), monkeypatch)


def test_trajectories_equal_deepfloyd_ifs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare our own schedule and respacing, from pure noise, where one β is 0.999, to the clean image."""
    case = CASES[0]
    theirs = scheduler(case)
    theirs.set_timesteps(timesteps=published.smart27_timesteps)
    stage = StageConfig(
        size=1, network=POINTS, schedule=ScheduleKind.COSINE_BETAS, steps=27, timestep_respacing=SECTIONS["smart27"]
    )
    compare(case, theirs, schedule.sampling_schedule(stage).log_snr, monkeypatch)


@pytest.mark.parametrize("name", SECTIONS)
def test_timestep_respacing_gives_the_published_timesteps(name: str) -> None:
    assert schedule.timesteps(SECTIONS[name]).tolist() == getattr(published, f"{name}_timesteps")


def test_cosine_betas_equal_squaredcos_cap_v2() -> None:
    ours = schedule.log_snr(ScheduleKind.COSINE_BETAS, jnp.arange(1000) / 1000)
    theirs = scheduler(CASES[0]).alphas_cumprod.numpy()
    np.testing.assert_allclose(jax.nn.sigmoid(ours), theirs, rtol=1e-4)


def scheduler(case: Case) -> Any:
    """Return the scheduler with DeepFloyd IF's thresholding."""
    return case.scheduler(
        beta_schedule=case.betas,
        prediction_type=NAMES[case.kind],
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
        **case.options,
    )


def compare(case: Case, theirs: Any, log_snr: Float[np.ndarray, " steps+1"], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    start, *noises = (rng.standard_normal(SHAPE).astype(np.float32) for _ in log_snr)
    used = iter(noises)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: to_torch(next(used)))
    ours, carry = jnp.asarray(start), build_sampler(case.sampler).initialize(jnp.asarray(start))
    expected = to_torch(start)
    learned = "variance_type" in case.options and case.options["variance_type"] == "learned_range"
    for number, time in enumerate(theirs.timesteps):
        log_snr_t, log_snr_s = (jnp.full(SHAPE[0], value, jnp.float32) for value in log_snr[number : number + 2])
        output = np.array(model(case.kind, from_torch(expected), log_snr_t))
        ours, carry = advance(case.sampler, case.kind, learned, carry, ours, log_snr_t, log_snr_s, noises[number])
        reference = output if learned else output[..., :3]
        expected = theirs.step(to_torch(reference), time, expected, **case.step_options).prev_sample
        assert relative_error(np.asarray(ours), from_torch(expected)) <= 1e-4, f"step {number}"


@partial(jax.jit, static_argnums=0)
def model(kind: Prediction, x: jax.Array, log_snr: jax.Array) -> jax.Array:
    """Return the output of a network that computes the mixture exactly, guided, with a variance in extra channels."""
    keep = jnp.ones(SHAPE[0], bool)
    epsilon = 1.5 * MIXTURE.epsilon(x, log_snr, keep, keep) - 0.5 * MIXTURE.epsilon(x, log_snr, ~keep, keep)
    x_0 = prediction.epsilon_to_x0(epsilon, x, log_snr)
    return jnp.concatenate([prediction.target(kind, x_0, epsilon, log_snr), jnp.sin(3.0 * x)], axis=-1)


@partial(jax.jit, static_argnums=(0, 1, 2))
def advance(
    sampler: SamplerKind, kind: Prediction, learned: bool, carry: Any, x: jax.Array, *levels_and_noise: jax.Array
) -> tuple[jax.Array, Any]:
    """Take a step as a stage does."""
    log_snr_t, log_snr_s, noise = levels_and_noise
    output = model(kind, x, log_snr_t)
    epsilon = prediction.to_epsilon(kind, output[..., :3], x, log_snr_t)
    x_0 = threshold(prediction.epsilon_to_x0(epsilon, x, log_snr_t), Thresholding(percentile=0.95, maximum=1.5))
    epsilon = prediction.x0_to_epsilon(x_0, x, log_snr_t)
    variance = output[..., 3:] if learned else None
    return build_sampler(sampler).step(carry, Step(x, x_0, epsilon, log_snr_t, log_snr_s, noise, variance))


def to_torch(x: _Images) -> torch.Tensor:
    """Convert NHWC to NCHW."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def from_torch(x: torch.Tensor) -> _Images:
    """Convert NCHW to NHWC."""
    images: _Images = x.numpy().transpose(0, 2, 3, 1)
    return images
