"""The warp: full-detail samples of the neighbors at the positions to which the image's map points.

Attention averages over the cells of a coarse grid. Here it only computes *where* to sample: the mean position under its
weights, which is finer than a cell. At that position, the neighbor's pixels and its finest map are sampled. This goes
beyond the paper.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.networks.attention import attend, exclude_neighbors
from reimagen_generator.networks.layers import fold, zero_linear

_KEY_CHANNELS = 24
_FIRST_WIDTH = 0.08
"""Initial width of a head's attention around the query's own position, in shares of the image."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WarpSources:
    """The features of an image's neighbors that the warp samples, the same at every step."""

    key: Float[Array, "batch keys heads channels"]
    place: Float[Array, "batch keys 3*neighbors"]
    """For each neighbor, 1 and the key's position at the neighbor's own keys; 0 at the keys of others."""
    pixels: Float[Array, "batch neighbors height width 3"]
    maps: Float[Array, "batch neighbors h0 w0 fine"]


class Warp(nnx.Module):
    """A layer that points from each cell of a coarse map to a position in each neighbor and samples it there."""

    def __init__(
        self, channels: int, fine: int, patch: int, heads: int, rngs: nnx.Rngs, *, dtype: jnp.dtype | None = None
    ) -> None:
        """Create a warp.

        Args:
            channels: Channels of the coarse map.
            fine: Channels of the finest map.
            patch: Side of one position of the finest map, in pixels.
            heads: The number of positions to which each cell points.
        """
        self.heads, self.patch = heads, patch
        self.query_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.key_norm = nnx.LayerNorm(channels, rngs=rngs)
        # Zero at first, so that each head starts at the query's own position.
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
        """Return the neighbors' features for the warp, computed once per image from their maps and their pixels."""
        b, n, h, w, _ = coarse.shape
        key = self.key(self.key_norm(coarse)).reshape(b, n * h * w, self.heads, -1)
        value = jnp.concatenate([jnp.ones((h, w, 1)), cell_centers(h, w)], axis=-1).reshape(h * w, 3)
        place = jnp.einsum("pc,nm->npmc", value, jnp.eye(n)).reshape(1, n * h * w, 3 * n)
        return WarpSources(key, jnp.broadcast_to(place, (b, *place.shape[1:])), pixels, maps)

    def __call__(
        self,
        x: Float[Array, "batch h w channels"],
        sources: WarpSources,
        mask: Bool[Array, "batch neighbors"],
        log_weights: Float[Array, "batch neighbors"] | None = None,
    ) -> Float[Array, "batch h0 w0 fine"]:
        """Return the update of the finest map; it is exactly zero for a row without neighbors.

        Args:
            x: The image's coarse map.
            sources: The features of the neighbors.
            mask: Which of the neighbors exist.
            log_weights: Logarithms of the neighbors' weights; None for weights of 1.
        """
        offset, share = self._point(x, sources, mask, log_weights)
        # The maps learn through attention. A gradient through the samples would be a scatter.
        maps, pixels = jax.lax.stop_gradient((sources.maps, sources.pixels))
        fetched = jnp.concatenate([fold(fetch(pixels, offset, share), self.patch), fetch(maps, offset, share)], axis=-1)
        return jnp.where(mask.any(axis=1)[:, None, None, None], self.out(fetched), 0.0)

    def _point(
        self,
        x: Float[Array, "batch h w channels"],
        sources: WarpSources,
        mask: Bool[Array, "batch neighbors"],
        log_weights: Float[Array, "batch neighbors"] | None,
    ) -> tuple[Float[Array, "batch neighbors heads h w 2"], Float[Array, "batch neighbors heads h w"]]:
        """Return each cell's offset to its position in each neighbor, and the neighbor's share of the attention."""
        b, h, w, _ = x.shape
        n = mask.shape[1]
        normed = self.query_norm(x)
        query = self.query(normed).reshape(b, h * w, self.heads, -1)
        center = cell_centers(h, w).reshape(1, h * w, 1, 2) + self.pointer(normed).reshape(b, h * w, self.heads, 2)
        difference = center.transpose(0, 2, 1, 3)[:, :, :, None] - cell_centers(h, w).reshape(-1, 2)
        bias = -jnp.exp(self.log_precision[...])[:, None, None] * (difference**2).sum(axis=-1)
        bias = jnp.tile(bias, (1, 1, 1, n)) + exclude_neighbors(mask, log_weights, h * w)
        place = jnp.broadcast_to(sources.place[:, :, None], (*sources.key.shape[:3], 3 * n))
        attended = (
            attend(query, sources.key, place, bias).reshape(b, h, w, self.heads, n, 3).transpose(0, 4, 3, 1, 2, 5)
        )
        share = attended[..., 0]
        return attended[..., 1:] / jnp.maximum(share, 1e-6)[..., None] - cell_centers(h, w), share


def cell_centers(h: int, w: int) -> Float[Array, "h w 2"]:
    """Return the center of each cell of a grid, row and column, in shares of the image."""
    return jnp.stack(jnp.meshgrid((jnp.arange(h) + 0.5) / h, (jnp.arange(w) + 0.5) / w, indexing="ij"), axis=-1)


def fetch(
    images: Float[Array, "batch neighbors height width channels"],
    offset: Float[Array, "batch neighbors heads h w 2"],
    share: Float[Array, "batch neighbors heads h w"],
) -> Float[Array, "batch height width heads*channels"]:
    """Return the neighbors as each head samples them, summed with the neighbors' shares.

    Args:
        images: The neighbors, or maps of them.
        offset: For each cell of a coarser grid, the offset to the sampled position, in shares of the image.
        share: The weight of each neighbor at each cell.
    """
    b, n, height, width, c = images.shape
    heads = share.shape[2]
    # The *offset* is interpolated between the cells, so that a zero offset is the same position at every resolution.
    offset = jax.image.resize(offset, (b, n, heads, height, width, 2), "linear")
    share = jax.image.resize(share, (b, n, heads, height, width), "linear")
    fetched = jax.vmap(jax.vmap(bilinear))(images, cell_centers(height, width) + offset)
    return (share[..., None] * fetched).sum(axis=1).transpose(0, 2, 3, 1, 4).reshape(b, height, width, heads * c)


def bilinear(
    image: Float[Array, "height width channels"], at: Float[Array, "*shape 2"]
) -> Float[Array, "*shape channels"]:
    """Return bilinear samples at positions in shares of the sides, clipped to the centers of the outer pixels."""
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
