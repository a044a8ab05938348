"""Blur of low-resolution images, so that a super-resolution stage learns to sharpen.

What the stage before draws is softer than a downsampled true image. A stage that has only seen the latter keeps the
softness and adds its own. Real-ESRGAN (arXiv 2107.10833, section 3.2) blurs its training images for the same reason.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

_RADIUS = 4
"""Reach of the kernel in pixels, twice the largest standard deviation."""


def blur(images: Float[Array, "batch h w 3"], deviation: Float[Array, " batch"]) -> Float[Array, "batch h w 3"]:
    """Return the images after a Gaussian blur, with their borders repeated.

    Args:
        images: Images of any range.
        deviation: The Gaussian's standard deviation for each image, in pixels, from 0 (no blur) to 2.
    """
    offsets = jnp.arange(-_RADIUS, _RADIUS + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(deviation, 0.05)[:, None]) ** 2)
    weights = weights / weights.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        padding = [(0, 0)] * images.ndim
        padding[axis] = (_RADIUS, _RADIUS)
        padded, side = jnp.pad(images, padding, mode="edge"), images.shape[axis]
        shifted = [jnp.take(padded, jnp.arange(start, start + side), axis=axis) for start in range(len(offsets))]
        images = jnp.einsum("bk,kbhwc->bhwc", weights, jnp.stack(shifted))
    return images
