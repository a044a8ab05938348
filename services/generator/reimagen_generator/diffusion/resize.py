"""Bringing pictures from one stage's size to another's."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

_Images = Float[Array, "batch height width 3"]


def to_float(picture: UInt8[Array, "*any"]) -> Float[Array, "*any"]:
    """Bytes to [-1, 1]."""
    return picture.astype(jnp.float32) / 127.5 - 1.0


def to_bytes(picture: Float[Array, "*any"]) -> UInt8[Array, "*any"]:
    """[-1, 1], clipped, to bytes."""
    return jnp.round((jnp.clip(picture, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def shrink(images: _Images, factor: int) -> Float[Array, "batch h w 3"]:
    """The mean of each square of `factor` × `factor` pixels."""
    b, h, w, c = images.shape
    return images.reshape(b, h // factor, factor, w // factor, factor, c).mean(axis=(2, 4))


def enlarge(images: Float[Array, "batch h w 3"], factor: int) -> _Images:
    """Bicubic enlargement."""
    b, h, w, c = images.shape
    enlarged: _Images = jax.image.resize(images, (b, h * factor, w * factor, c), "cubic")
    return enlarged
