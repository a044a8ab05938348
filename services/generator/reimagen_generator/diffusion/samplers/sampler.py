"""What all samplers share: one step, of arrays only, so that any loop can make it.

    carry = sampler.initialize(x)
    for each step from λ_t up to λ_s:
        x_0, ε = the network's prediction at x, guided, thresholded
        x, carry = sampler.step(carry, Step(x, x_0, ε, ...))

The carry keeps its structure and shapes from step to step: a compiled loop takes it along as a loop over a stream of
previews does. λ_s = ∞ is the clean image: a step to there gives x_0 exactly, whatever the sampler.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import jax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Batch = Float[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Step:
    """A step from the log-SNR λ_t to the higher λ_s, and all that it may draw on.

    `x_0` and `epsilon` are one prediction, consistent with `x_t`. `variance` is the network's own, if it has learned
    one: where between its bounds, which are at -1 and 1, the logarithm of the step's variance lies.
    """

    x_t: Images
    x_0: Images
    epsilon: Images
    log_snr_t: Batch
    log_snr_s: Batch
    noise: Images
    variance: Images | None = None


Carry = TypeVar("Carry")


class Sampler(Protocol[Carry]):
    """A way from noise to an image."""

    def initialize(self, x: Images) -> Carry:
        """What the first step takes along, for images like `x`."""
        ...

    def step(self, carry: Carry, step: Step) -> tuple[Images, Carry]:
        """x_s, and what the next step takes along."""
        ...
