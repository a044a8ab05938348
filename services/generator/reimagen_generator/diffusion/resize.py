"""Bringing images from one stage's size to another's."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from reimagen_generator.config.cascade import Upsampling

_Images = Float[Array, "batch height width 3"]


def to_float(picture: UInt8[Array, "*any"]) -> Float[Array, "*any"]:
    """Bytes to [-1, 1]."""
    return picture.astype(jnp.float32) / 127.5 - 1.0


def to_bytes(picture: Float[Array, "*any"]) -> UInt8[Array, "*any"]:
    """[-1, 1], clipped, to bytes."""
    return jnp.round((jnp.clip(picture, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def downsample(images: _Images, factor: int) -> Float[Array, "batch h w 3"]:
    """The mean of each square of `factor` × `factor` pixels."""
    b, h, w, c = images.shape
    return images.reshape(b, h // factor, factor, w // factor, factor, c).mean(axis=(2, 4))


def upsample(images: Float[Array, "batch h w 3"], factor: int, kind: Upsampling = Upsampling.BICUBIC) -> _Images:
    """The images at `factor` times their side."""
    b, h, w, c = images.shape
    if kind is Upsampling.BILINEAR_CORNERS:
        rows, columns = _between_corners(h, factor), _between_corners(w, factor)
        return jnp.einsum("Hh,Ww,bhwc->bHWc", rows, columns, images)
    upsampled: _Images = jax.image.resize(images, (b, h * factor, w * factor, c), "cubic")
    return upsampled


def low_res_consistent(x_0: _Images, low_res: Float[Array, "batch h w 3"], factor: int, kind: Upsampling) -> _Images:
    """The image with what it lacks of the low-resolution one, when downsampled, added to it.

    That is the projection onto the images that downsample to it (DDNM, arXiv 2212.00490, section 3.2), but
    for what is added being smoothly upsampled: spread evenly over squares it would show their edges.
    """
    return jnp.clip(x_0 + upsample(low_res - downsample(x_0, factor), factor, kind), -1.0, 1.0)


def _between_corners(side: int, factor: int) -> Float[np.ndarray, "large small"]:
    """Linear interpolation along one axis, as a matrix: the first place stays the first, and the last the last."""
    places = np.linspace(0, side - 1, side * factor)
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(side))).astype(np.float32)
