"""A sampler of batches whose rows have samplers of their own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from reimagen_generator.config.cascade import SamplerKind
from reimagen_generator.diffusion.noise import Purpose, normal
from reimagen_generator.diffusion.samplers.registry import build_sampler
from reimagen_generator.diffusion.samplers.sampler import Images, Step
from reimagen_generator.diffusion.samplers.unipc import History, UniPC
from reimagen_generator.diffusion.schedule import per_image

_CODES = {kind: code for code, kind in enumerate(SamplerKind)}


def sampler_codes(kinds: Sequence[SamplerKind]) -> Int[Array, " batch"]:
    """Return the samplers of a batch's rows as an array, so that other samplers need no new compilation."""
    return jnp.asarray(np.asarray([_CODES[kind] for kind in kinds], np.int32))


def step_noise(
    codes: Int[Array, " batch"], keys: Key[Array, " batch"], steps: Int[Array, " batch"], side: int
) -> Images:
    """Return the noise of a step, or zeros if no row's sampler uses it: it takes long on a CPU.

    Args:
        codes: The sampler of each row.
        keys: The key of each row.
        steps: The number of each row's step.
        side: Side of the images in pixels.
    """
    noise: Images = jax.lax.cond(
        (codes == _CODES[SamplerKind.DDPM]).any(),
        lambda: normal(keys, Purpose.STEP_NOISE, steps, side),
        lambda: jnp.zeros((len(keys), side, side, 3)),
    )
    return noise


class RowSampler:
    """All samplers take each step, and each row keeps the result of its own.

    A step costs far less than the evaluation of the network before it. The carry is that of UniPC, which contains that
    of DPM-Solver++; the others have none.
    """

    def initialize(self, x: Images) -> History:
        """Return the carry of the first step."""
        return UniPC().initialize(x)

    def step(self, carry: History, step: Step, codes: Int[Array, " batch"]) -> tuple[Images, History]:
        """Return x_s and the carry of the next step.

        Args:
            carry: What earlier steps have left.
            step: The step of each row, with noise from `step_noise`.
            codes: The sampler of each row (see `sampler_codes`).
        """
        carries = {
            SamplerKind.DDPM: None,
            SamplerKind.DDIM: None,
            SamplerKind.DPM_SOLVER: carry.last,
            SamplerKind.UNIPC: carry,
        }
        results = {kind: build_sampler(kind).step(before, step) for kind, before in carries.items()}
        x, after = results[SamplerKind.UNIPC]
        for kind, (result, _) in results.items():
            x = jnp.where(per_image(codes == _CODES[kind]), result, x)
        return x, after
