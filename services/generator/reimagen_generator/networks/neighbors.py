"""Attention from an image's maps to the maps of its neighbors, for any network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.networks.attention import attend, exclude_neighbors
from reimagen_generator.networks.layers import fold, unfold, zero_linear
from reimagen_generator.networks.placement import CANVAS_CHANNELS, PlacedReferences, canvases

_Map = Float[Array, "batch _ _ _"]
"""A feature map. Its sides and channels differ from level to level."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NeighborKeysValues:
    """The keys and values of an image's neighbors for one attention layer; independent of x_t and the prompt."""

    key: Float[Array, "batch keys heads channels"]
    value: Float[Array, "batch keys heads values"]


class NeighborAttention(nnx.Module):
    """Attention from the image's map to its neighbors' maps (Re-Imagen, section 3.2).

    The values carry the neighbors' map of this level and that of the next finer one, folded. The match is found on the
    coarse grid, where attention is cheap, and the fine detail follows it. Each head starts with its attention centered
    on the query's own position, with a width that differs by head. A bias of -p·|query position - key position -
    offset|² does this, where p and offset are learned and positions are in shares of the image.
    """

    def __init__(
        self,
        channels: int,
        fine_channels: int,
        head_channels: int,
        rngs: nnx.Rngs,
        *,
        dtype: jnp.dtype | None = None,
    ) -> None:
        # Each head carries an equal part of both. If the fine channels cannot be divided, there are fewer heads.
        self.heads = math.gcd(channels // head_channels, 4 * fine_channels)
        self.fine = fine_channels > 0
        self.query_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.key_norm = nnx.LayerNorm(channels, rngs=rngs)
        carried = channels + 4 * fine_channels
        self.query = nnx.Linear(channels, channels, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(channels, channels, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(carried, carried, dtype=dtype, rngs=rngs)
        self.out = zero_linear(channels, channels, rngs, dtype=dtype)
        self.fine_out = zero_linear(4 * fine_channels, 4 * fine_channels, rngs, dtype=dtype) if self.fine else None
        widths = jnp.geomspace(0.04, 0.6, self.heads)
        self.log_precision = nnx.Param(-jnp.log(2 * widths**2))
        self.offset = nnx.Param(jnp.zeros((self.heads, 2)))

    def keys_values(
        self,
        maps: Float[Array, "batch neighbors h w channels"],
        fine_maps: Float[Array, "batch neighbors height width fine"] | None,
    ) -> NeighborKeysValues:
        """Return the keys and values of the neighbors, computed once per image."""
        b, k, h, w, _ = maps.shape
        normed = self.key_norm(maps)
        carried = normed
        if fine_maps is not None:
            folded = fold(fine_maps.reshape(b * k, *fine_maps.shape[2:]), 2)
            carried = jnp.concatenate([normed, folded.reshape(b, k, h, w, -1)], axis=-1)
        key = self.key(normed).reshape(b, k * h * w, self.heads, -1)
        return NeighborKeysValues(key, self.value(carried).reshape(b, k * h * w, self.heads, -1))

    def __call__(
        self,
        x: Float[Array, "batch h w channels"],
        neighbors: NeighborKeysValues,
        mask: Bool[Array, "batch neighbors"],
        log_weights: Float[Array, "batch neighbors"] | None = None,
    ) -> tuple[Float[Array, "batch h w channels"], Float[Array, "batch height width fine"] | None]:
        """Return the updates of the map and of the next finer one; both are exactly zero without neighbors.

        Args:
            x: The image's map.
            neighbors: The keys and values of the neighbors.
            mask: Which of the neighbors exist.
            log_weights: Logarithms of the neighbors' weights; None for weights of 1.
        """
        b, h, w, c = x.shape
        query = self.query(self.query_norm(x)).reshape(b, h * w, self.heads, -1)
        bias = jnp.tile(self._position_bias(h, w), (1, 1, 1, mask.shape[1])) + exclude_neighbors(
            mask, log_weights, h * w
        )
        attended = attend(query, neighbors.key, neighbors.value, bias)
        # The heads are concatenated, each with its part of the coarse and of the fine channels.
        coarse = attended[..., : c // self.heads].reshape(b, h * w, c)
        has_neighbors = mask.any(axis=1)[:, None, None, None]
        added = jnp.where(has_neighbors, self.out(coarse).reshape(b, h, w, c), 0.0)
        if self.fine_out is None:
            return added, None
        fine = self.fine_out(attended[..., c // self.heads :].reshape(b, h, w, -1))
        return added, jnp.where(has_neighbors, unfold(fine, 2), 0.0)

    def _position_bias(self, h: int, w: int) -> Float[Array, "1 heads queries keys"]:
        rows, columns = jnp.meshgrid((jnp.arange(h) + 0.5) / h, (jnp.arange(w) + 0.5) / w, indexing="ij")
        positions = jnp.stack([rows, columns], axis=-1).reshape(-1, 2)
        difference = positions[None, None, :] - positions[None, :, None] - self.offset[...][:, None, None]
        return (-jnp.exp(self.log_precision[...])[:, None, None] * (difference**2).sum(axis=-1))[None]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neighbors:
    """Encoded neighbors: keys and values for each level that attends to them, and which neighbors exist."""

    levels: dict[str, NeighborKeysValues]
    mask: Bool[Array, "batch neighbors"]
    log_weights: Float[Array, "batch neighbors"] | None = None
    """Logarithms of the weights, which are added to the attention logits of the neighbors' keys; None: all are 1."""
    placed: PlacedReferences | None = None
    """The placed objects of the neighbors, for a network that takes them."""


def canvases_of(
    neighbors: Neighbors | None, x: Float[Array, "batch height width 3"]
) -> Float[Array, "batch height width canvas_channels"]:
    """Return the canvases of the neighbors; they are empty for images `x` without placed neighbors."""
    if neighbors is None or neighbors.placed is None:
        return jnp.zeros((*x.shape[:3], CANVAS_CHANNELS), x.dtype)
    return canvases(neighbors.placed, neighbors.mask)


class NeighborAttentions(nnx.Dict[NeighborAttention]):
    """The attention layers to the neighbors, by level; level 0 is the finest."""

    def __init__(
        self,
        widths: Sequence[int],
        levels: Sequence[bool],
        head_channels: int,
        rngs: nnx.Rngs,
        *,
        dtype: jnp.dtype | None = None,
    ) -> None:
        super().__init__(
            {
                str(level): NeighborAttention(
                    widths[level], widths[level - 1] if level else 0, head_channels, rngs, dtype=dtype
                )
                for level, used in enumerate(levels)
                if used
            }
        )

    def encode(self, maps: Sequence[Float[Array, "rows _ _ _"]], mask: Bool[Array, "batch neighbors"]) -> Neighbors:
        """Return the keys and values of the neighbors.

        Args:
            maps: The encoder's last map of each level, with batch × neighbors rows.
            mask: Which of the neighbors exist.
        """
        by_neighbor = [level.reshape(*mask.shape, *level.shape[1:]) for level in maps]
        return Neighbors(
            {
                name: attention.keys_values(by_neighbor[int(name)], by_neighbor[int(name) - 1] if int(name) else None)
                for name, attention in self.items()
            },
            mask,
        )

    def attend(self, level: int, h: _Map, fine: _Map | None, neighbors: Neighbors | None) -> tuple[_Map, _Map | None]:
        """Add the update from the coarser level and this level's own attention.

        Returns:
            The map, and the update of the next finer one.
        """
        if fine is not None:
            h = h + fine
        if neighbors is None or str(level) not in self:
            return h, None
        added, fine = self[str(level)](h, neighbors.levels[str(level)], neighbors.mask, neighbors.log_weights)
        return h + added, fine
