"""Fetching what neighbors show, in full detail, from the places that the image's map points to.

Attention averages what it attends to, cell by cell of a coarse grid. Here it only tells *where* to look: the mean place
under its weights, finer than a cell. What the neighbor shows there is sampled from its pixels and from its finest map.
This goes beyond the paper.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.networks.attention import attend, exclude
from reimagen_generator.networks.layers import fold, zero_linear

_KEY_CHANNELS = 24
_FIRST_WIDTH = 0.08
"""How far around the query's own place a head looks before it has learned anything, in shares of the image."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WarpSources:
    """An image's neighbors as they are fetched from, the same at every step."""

    key: Float[Array, "batch keys heads channels"]
    place: Float[Array, "batch keys 3*neighbors"]
    """For each neighbor 1 and the key's place, at its own keys; 0 at the others'."""
    pixels: Float[Array, "batch neighbors height width 3"]
    maps: Float[Array, "batch neighbors h0 w0 fine"]


class Warp(nnx.Module):
    """Points from each cell of a coarse map to a place in each neighbor, and fetches what is there."""

    def __init__(
        self, channels: int, fine: int, patch: int, heads: int, rngs: nnx.Rngs, *, dtype: jnp.dtype | None = None
    ) -> None:
        """Takes its sizes.

        Args:
            channels: of the coarse map.
            fine: channels of the finest map.
            patch: pixels along a side of one of its positions.
            heads: how many places each cell points to.
        """
        self.heads, self.patch = heads, patch
        self.query_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.key_norm = nnx.LayerNorm(channels, rngs=rngs)
        # Zero at first, so that each head begins by looking at the query's own place.
        self.query = zero_linear(channels, heads * _KEY_CHANNELS, rngs, dtype=dtype)
        self.key = nnx.Linear(channels, heads * _KEY_CHANNELS, dtype=dtype, rngs=rngs)
        self.pointer = zero_linear(channels, heads * 2, rngs)
        self.log_precision = nnx.Param(jnp.full(heads, -jnp.log(2 * _FIRST_WIDTH**2)))
        self.out = zero_linear(heads * (3 * patch**2 + fine), fine, rngs, dtype=dtype)

    def sources(
        self,
        coarse: Float[Array, "batch neighbors h w channels"],
        maps: Float[Array, "batch neighbors h0 w0 fine"],
        pixels: Float[Array, "batch neighbors height width 3"],
    ) -> WarpSources:
        """What of the neighbors is needed, once an image: their encoder's maps and they themselves."""
        b, n, h, w, _ = coarse.shape
        key = self.key(self.key_norm(coarse)).reshape(b, n * h * w, self.heads, -1)
        told = jnp.concatenate([jnp.ones((h, w, 1)), places(h, w)], axis=-1).reshape(h * w, 3)
        place = jnp.einsum("pc,nm->npmc", told, jnp.eye(n)).reshape(1, n * h * w, 3 * n)
        return WarpSources(key, jnp.broadcast_to(place, (b, *place.shape[1:])), pixels, maps)

    def __call__(
        self, x: Float[Array, "batch h w channels"], sources: WarpSources, mask: Bool[Array, "batch neighbors"]
    ) -> Float[Array, "batch h0 w0 fine"]:
        """What to add to the finest map; exactly zero where no neighbor is kept."""
        offset, share = self._look(x, sources, mask)
        # The maps learn through attention: a gradient through here would be a scatter.
        maps, pixels = jax.lax.stop_gradient((sources.maps, sources.pixels))
        fetched = jnp.concatenate([fold(fetch(pixels, offset, share), self.patch), fetch(maps, offset, share)], axis=-1)
        return jnp.where(mask.any(axis=1)[:, None, None, None], self.out(fetched), 0.0)

    def _look(
        self, x: Float[Array, "batch h w channels"], sources: WarpSources, mask: Bool[Array, "batch neighbors"]
    ) -> tuple[Float[Array, "batch neighbors heads h w 2"], Float[Array, "batch neighbors heads h w"]]:
        """How far from its own place each cell looks in each neighbor, and the neighbor's share of the attention."""
        b, h, w, _ = x.shape
        n = mask.shape[1]
        normed = self.query_norm(x)
        query = self.query(normed).reshape(b, h * w, self.heads, -1)
        center = places(h, w).reshape(1, h * w, 1, 2) + self.pointer(normed).reshape(b, h * w, self.heads, 2)
        apart = center.transpose(0, 2, 1, 3)[:, :, :, None] - places(h, w).reshape(-1, 2)
        bias = -jnp.exp(self.log_precision[...])[:, None, None] * (apart**2).sum(axis=-1)
        bias = jnp.tile(bias, (1, 1, 1, n)) + exclude(jnp.repeat(mask, h * w, axis=1))
        place = jnp.broadcast_to(sources.place[:, :, None], (*sources.key.shape[:3], 3 * n))
        told = attend(query, sources.key, place, bias).reshape(b, h, w, self.heads, n, 3).transpose(0, 4, 3, 1, 2, 5)
        share = told[..., 0]
        return told[..., 1:] / jnp.maximum(share, 1e-6)[..., None] - places(h, w), share


def places(h: int, w: int) -> Float[Array, "h w 2"]:
    """The middle of each cell of a grid, row and column, in shares of the image."""
    return jnp.stack(jnp.meshgrid((jnp.arange(h) + 0.5) / h, (jnp.arange(w) + 0.5) / w, indexing="ij"), axis=-1)


def fetch(
    images: Float[Array, "batch neighbors height width channels"],
    offset: Float[Array, "batch neighbors heads h w 2"],
    share: Float[Array, "batch neighbors heads h w"],
) -> Float[Array, "batch height width heads*channels"]:
    """The neighbors as each head sees them, added up by their shares.

    Args:
        images: the neighbors, or maps of them.
        offset: how far from its own place each cell of a coarser grid looks, in shares of the image.
        share: how much each neighbor counts there.
    """
    b, n, height, width, c = images.shape
    heads = share.shape[2]
    # Between the cells the *offset* is interpolated, so that no offset is the same place everywhere.
    offset = jax.image.resize(offset, (b, n, heads, height, width, 2), "linear")
    share = jax.image.resize(share, (b, n, heads, height, width), "linear")
    fetched = jax.vmap(jax.vmap(bilinear))(images, places(height, width) + offset)
    return (share[..., None] * fetched).sum(axis=1).transpose(0, 2, 3, 1, 4).reshape(b, height, width, heads * c)


def bilinear(
    image: Float[Array, "height width channels"], at: Float[Array, "*shape 2"]
) -> Float[Array, "*shape channels"]:
    """The image at places in shares of its sides; beyond the middle of its last pixels, what is there."""
    height, width, channels = image.shape
    at = jnp.clip(at * jnp.array([height, width]) - 0.5, 0.0, jnp.array([height, width]) - 1.0)
    corner = jnp.minimum(jnp.floor(at).astype(jnp.int32), jnp.array([height, width]) - 2)
    down, right = jnp.moveaxis(at - corner, -1, 0)[..., None]
    flat = image.reshape(-1, channels)
    first = corner[..., 0] * width + corner[..., 1]
    upper = flat[first] + right * (flat[first + 1] - flat[first])
    lower = flat[first + width] + right * (flat[first + width + 1] - flat[first + width])
    middle: Array = upper + down * (lower - upper)
    return middle
