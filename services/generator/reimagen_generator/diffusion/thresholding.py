"""Thresholding, which keeps a guided x_0 in the range of images."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import Thresholding
from reimagen_generator.diffusion.schedule import per_image

_Images = Float[Array, "batch height width channels"]


def threshold(x_0: _Images, thresholding: Thresholding) -> _Images:
    """Apply dynamic thresholding (Imagen, section 2.3): s = max(1, quantile of |x_0|), clip to ±s, divide by s.

    s is at most `thresholding.maximum`; a maximum of 1 is static thresholding, plain clipping.
    """
    if thresholding.maximum == 1.0:  # plain clipping does not need the quantile, which sorts the whole image
        return jnp.clip(x_0, -1.0, 1.0)
    flat = jnp.abs(x_0).reshape(x_0.shape[0], -1)
    quantile = jnp.quantile(flat, thresholding.percentile, axis=1)
    divisor = per_image(jnp.clip(quantile, 1.0, thresholding.maximum))
    return jnp.clip(x_0, -divisor, divisor) / divisor
