"""The interface of all samplers: one step, on arrays only, so that any loop can run it.

    carry = sampler.initialize(x)
    for each step from λ_t up to λ_s:
        x_0, ε = the network's prediction at x, guided, thresholded
        x, carry = sampler.step(carry, Step(x, x_0, ε, ...))

The carry has the same structure and shapes at every step, so a compiled loop can carry it as well as a loop that
streams previews. λ_s = ∞ is the clean image: a step to it returns x_0 exactly, with any sampler.
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
    """A step from the log-SNR λ_t to the higher λ_s, with all inputs that a sampler may use.

    `x_0` and `epsilon` are one prediction, consistent with `x_t`. `variance` is the network's learned variance, if any:
    the position of the step's log variance between its bounds, which are at -1 and 1.
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
    """A sampler, which leads from noise to an image."""

    def initialize(self, x: Images) -> Carry:
        """Return the carry of the first step, for images like `x`."""
        ...

    def step(self, carry: Carry, step: Step) -> tuple[Images, Carry]:
        """Return x_s and the carry of the next step."""
        ...
