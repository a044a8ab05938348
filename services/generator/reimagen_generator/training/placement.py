"""Training with placements: the true placements of composed images, random errors, and the loss of the network.

A network that copies from placed references sees them near their true places in training, since the true places are
unknown during sampling. Most errors are as small as those of a good placement. Some are so large that the network must
learn to detect them from x_t.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from reimagen_generator.networks.placement import PlacedReferences, Placements, place
from reimagen_generator.networks.placement_network import PlacementDistribution

_SMALL = {"center": 0.006, "log_size": 0.03, "angle": 0.03}
"""Standard deviations of the small errors, which most placements have."""
_SUPER_RESOLUTION = 0.1
"""Factor on the small errors for super-resolution: the stage before has drawn at the very placement that is shown."""
_LARGE = {"center": 0.06, "log_size": 0.15, "angle": 0.12}
"""Standard deviations of the large errors."""
_MIRRORED_WRONGLY = 0.1
"""Share of the placements with large errors that are also mirrored wrongly."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ReferenceTruth:
    """The truth about each neighbor, from composed shards."""

    mattes: UInt8[Array, "batch neighbors side side"]
    """The opacity of the object in each pixel."""
    placements: Placements
    canvas: Int[Array, "batch neighbors"]
    """The canvas of each neighbor, from `canvas_of`."""

    def placed(
        self, images: Float[Array, "batch neighbors side side 3"], placements: Placements, size: int
    ) -> PlacedReferences:
        """Return the neighbors' objects at placements, cut out by their true mattes, `size` pixels per side."""
        return place(images, self.mattes.astype(jnp.float32) / 255.0, placements, self.canvas, size)


def jittered(key: Key[Array, ""], true: Placements, share: float, *, super_resolution: bool) -> Placements:
    """Return placements with random errors.

    Args:
        key: The random key.
        true: The true placements.
        share: Share of the images whose errors are large.
        super_resolution: Whether the network upsamples an image that was drawn at these placements.
    """
    keys = jax.random.split(key, 5)
    batch = true.size.shape[0]
    large = jax.random.uniform(keys[0], (batch, 1, 1)) < share
    small = _SUPER_RESOLUTION if super_resolution else 1.0

    def error(key: Key[Array, ""], shape: tuple[int, ...], kind: str) -> Float[Array, "..."]:
        deviation = jnp.where(large, _LARGE[kind], small * _SMALL[kind]).reshape(batch, *[1] * (len(shape) - 1))
        return deviation * jax.random.normal(key, shape)

    flipped = large & (jax.random.uniform(keys[4], true.mirrored.shape) < _MIRRORED_WRONGLY)
    return replace(
        true,
        center=true.center + error(keys[1], true.center.shape, "center"),
        size=true.size * jnp.exp(error(keys[2], true.size.shape, "log_size")),
        angle=true.angle + error(keys[3], true.angle.shape, "angle"),
        mirrored=true.mirrored ^ flipped,
    )


def placement_loss(
    distribution: PlacementDistribution, truth: ReferenceTruth, mask: Bool[Array, "batch neighbors"]
) -> Float[Array, " batch"]:
    """Return the loss of the placement network for each image, the mean over its neighbors.

    The matte has binary cross-entropy, the box an absolute error, presence and mirroring logistic losses, the sine and
    cosine of the angle a squared error, and the rest the negative log-likelihood of its normal distribution.
    """
    true = truth.placements
    side = distribution.matte.shape[-1]
    factor = truth.mattes.shape[-1] // side
    opacity = truth.mattes.astype(jnp.float32) / 255.0
    opacity = opacity.reshape(*opacity.shape[:2], side, factor, side, factor).mean(axis=(3, 5))
    matte = _cross_entropy(distribution.matte, opacity).mean(axis=(2, 3))
    box = jnp.abs(distribution.box - true.box).sum(axis=-1)
    presence = _cross_entropy(distribution.presence, true.present).sum(axis=-1)
    size_error = jnp.log(jnp.maximum(true.size, 1e-3)) - distribution.log_size
    center = true.center - distribution.center - distribution.slope * size_error[..., None]
    turn = jnp.stack([jnp.cos(true.angle), jnp.sin(true.angle)], axis=-1)
    # The mean angle is trained only through its sine and cosine, and its deviation from the remaining error.
    mean = jax.lax.stop_gradient(jnp.arctan2(distribution.turn[..., 1], distribution.turn[..., 0]))
    angle = (true.angle - mean + jnp.pi) % (2 * jnp.pi) - jnp.pi
    errors = jnp.concatenate([size_error[..., None], center, angle[..., None]], axis=-1)
    likelihood = 0.5 * (errors * jnp.exp(-distribution.log_deviation)) ** 2 + distribution.log_deviation
    copies = (
        likelihood.sum(axis=-1)
        + 5.0 * ((distribution.turn - turn) ** 2).sum(axis=-1)
        + _cross_entropy(distribution.mirrored, true.mirrored)
    )
    placement = jnp.where(true.present, copies, 0.0).sum(axis=-1)
    by_neighbor = 4.0 * matte + 4.0 * box + presence + placement
    return jnp.where(mask, by_neighbor, 0.0).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)


def _cross_entropy(logits: Float[Array, "*shape"], target: Float[Array, "*shape"] | Bool[Array, "*shape"]) -> Array:
    """Return the binary cross-entropy of logits."""
    loss: Array = jnp.logaddexp(0.0, logits) - logits * target
    return loss
