"""Conversion of images between bytes and floats, and between the sizes of stages."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from reimagen_generator.config.cascade import Upsampling
from reimagen_generator.diffusion.references import ReferencePair, square

_Images = Float[Array, "batch height width 3"]


def to_float(image: UInt8[Array, "*any"]) -> Float[Array, "*any"]:
    """Convert bytes to floats in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def to_bytes(image: Float[Array, "*any"]) -> UInt8[Array, "*any"]:
    """Convert floats to bytes; values are clipped to [-1, 1]."""
    return jnp.round((jnp.clip(image, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def resized(pairs: Sequence[ReferencePair], size: int, slots: int) -> Float[Array, "1 slots size size 3"]:
    """Return the neighbors as squares of `size`, in [-1, 1]; missing ones up to `slots` are black."""
    squares = [square(pair.image, size) for pair in pairs]
    squares += [np.zeros((size, size, 3), np.uint8)] * (slots - len(pairs))
    return to_float(jnp.asarray(np.stack(squares)))[None]


def downsample(images: _Images, factor: int) -> Float[Array, "batch h w 3"]:
    """Return the mean of each square of `factor` × `factor` pixels."""
    b, h, w, c = images.shape
    return images.reshape(b, h // factor, factor, w // factor, factor, c).mean(axis=(2, 4))


def upsample(
    images: Float[Array, "batch h w channels"], factor: int, kind: Upsampling = Upsampling.BICUBIC
) -> Float[Array, "batch height width channels"]:
    """Return the images at `factor` times their side."""
    b, h, w, c = images.shape
    if kind is Upsampling.BILINEAR_CORNERS:
        rows, columns = _corner_aligned(h, factor), _corner_aligned(w, factor)
        return jnp.einsum("Hh,Ww,bhwc->bHWc", rows, columns, images)
    upsampled: Array = jax.image.resize(images, (b, h * factor, w * factor, c), "cubic")
    return upsampled


def low_res_consistent(x_0: _Images, low_res: Float[Array, "batch h w 3"], factor: int, kind: Upsampling) -> _Images:
    """Correct an image so that, downsampled, it nearly equals the low-resolution image.

    This is the projection onto the images that downsample to the low-resolution image (DDNM, arXiv 2212.00490, section
    3.2), except that the correction is smoothly upsampled: spread evenly over squares, it would show their edges.
    """
    return jnp.clip(x_0 + upsample(low_res - downsample(x_0, factor), factor, kind), -1.0, 1.0)


def _corner_aligned(side: int, factor: int) -> Float[np.ndarray, "large small"]:
    """Return the matrix of linear interpolation along one axis with aligned ends."""
    positions = np.linspace(0, side - 1, side * factor)
    return np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(side))).astype(np.float32)
