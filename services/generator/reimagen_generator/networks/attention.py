"""Attention: within the picture and to the text, and from the picture to its neighbors."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.networks.layers import finite_maximum, fold, nonzero, unfold, zero_linear

_Tokens = Float[Array, "batch length channels"]


def attend(
    query: Float[Array, "batch queries heads channels"],
    key: Float[Array, "batch keys heads channels"],
    value: Float[Array, "batch keys heads values"],
    bias: Float[Array, "#batch #heads #queries keys"],
) -> Float[Array, "batch queries heads values"]:
    """Softmax attention with a bias on the logits.

    A bias of -inf excludes a key; a query all of whose keys are excluded gets exactly zero.
    """
    # Plain batched products: einsum over an inner head axis is much slower on the CPU.
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    logits = query @ key.swapaxes(-1, -2) / jnp.sqrt(query.shape[-1]) + bias
    weights = jnp.exp(logits - finite_maximum(logits, axis=-1))
    # Dividing after the second product touches far fewer numbers than dividing the weights.
    attended = (weights @ value) / nonzero(weights.sum(axis=-1, keepdims=True))
    return attended.transpose(0, 2, 1, 3)


def _exclude(mask: Bool[Array, "batch keys"]) -> Float[Array, "batch 1 1 keys"]:
    return jnp.where(mask, 0.0, -jnp.inf)[:, None, None, :]


class AttentionBlock(nnx.Module):
    """Self-attention whose keys and values are joined by the text's tokens (Imagen, section B.1), then a perceptron."""

    def __init__(self, channels: int, text_channels: int, head_channels: int, rngs: nnx.Rngs) -> None:
        self.heads = channels // head_channels
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.text_norm = nnx.LayerNorm(text_channels, rngs=rngs)
        self.qkv = nnx.Linear(channels, 3 * channels, rngs=rngs)
        self.text_kv = nnx.Linear(text_channels, 2 * channels, rngs=rngs)
        self.out = zero_linear(channels, channels, rngs)
        self.mlp_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.mlp_in = nnx.Linear(channels, 2 * channels, rngs=rngs)
        self.mlp_out = zero_linear(2 * channels, channels, rngs)

    def __call__(
        self, x: Float[Array, "batch h w channels"], text: _Tokens, text_mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch h w channels"]:
        """One block."""
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)
        query, key, value = jnp.split(self.qkv(self.norm(tokens)), 3, axis=-1)
        text_key, text_value = jnp.split(self.text_kv(self.text_norm(text)), 2, axis=-1)
        mask = jnp.concatenate([jnp.ones((b, h * w), bool), text_mask], axis=1)
        attended = attend(
            self._split(query),
            self._split(jnp.concatenate([key, text_key], axis=1)),
            self._split(jnp.concatenate([value, text_value], axis=1)),
            _exclude(mask),
        )
        tokens = tokens + self.out(attended.reshape(b, h * w, c))
        tokens = tokens + self.mlp_out(nnx.gelu(self.mlp_in(self.mlp_norm(tokens))))
        return tokens.reshape(b, h, w, c)

    def _split(self, x: _Tokens) -> Float[Array, "batch length heads channels"]:
        return x.reshape(*x.shape[:2], self.heads, -1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NeighborKeysValues:
    """The keys and values of a picture's neighbors for one attention; they depend on neither x_t nor the prompt."""

    key: Float[Array, "batch keys heads channels"]
    value: Float[Array, "batch keys heads values"]


class NeighborAttention(nnx.Module):
    """Attention from the picture's map to its neighbors' maps (Re-Imagen, section 3.2).

    The values carry the neighbors' map of this level and that of the next finer one, folded: the correspondence is
    found on the coarse grid, where attention is cheap, and fine detail follows it. Each head starts with its attention
    centred on the query's own place, at a width of its own, by a bias of -p·|query place - key place - offset|² with p
    and offset learned, places counted in shares of the picture.
    """

    def __init__(self, channels: int, fine_channels: int, head_channels: int, rngs: nnx.Rngs) -> None:
        self.heads = channels // head_channels
        self.fine = fine_channels > 0
        self.query_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.key_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.query = nnx.Linear(channels, channels, rngs=rngs)
        self.key = nnx.Linear(channels, channels, rngs=rngs)
        self.value = nnx.Linear(channels + 4 * fine_channels, channels + 4 * fine_channels, rngs=rngs)
        self.out = zero_linear(channels, channels, rngs)
        self.fine_out = zero_linear(4 * fine_channels, 4 * fine_channels, rngs) if self.fine else None
        widths = jnp.geomspace(0.04, 0.6, self.heads)
        self.log_precision = nnx.Param(-jnp.log(2 * widths**2))
        self.offset = nnx.Param(jnp.zeros((self.heads, 2)))

    def keys_values(
        self,
        maps: Float[Array, "batch neighbors h w channels"],
        fine_maps: Float[Array, "batch neighbors height width fine"] | None,
    ) -> NeighborKeysValues:
        """What of the neighbors this attention needs, once a picture."""
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
    ) -> tuple[Float[Array, "batch h w channels"], Float[Array, "batch height width fine"] | None]:
        """What to add to the map, and to the next finer one; both exactly zero where no neighbor is kept."""
        b, h, w, c = x.shape
        query = self.query(self.query_norm(x)).reshape(b, h * w, self.heads, -1)
        bias = jnp.tile(self._place_bias(h, w), (1, 1, 1, mask.shape[1])) + _exclude(jnp.repeat(mask, h * w, axis=1))
        attended = attend(query, neighbors.key, neighbors.value, bias)
        # Heads side by side, each with its share of the coarse and of the fine channels.
        coarse = attended[..., : c // self.heads].reshape(b, h * w, c)
        kept = mask.any(axis=1)[:, None, None, None]
        added = jnp.where(kept, self.out(coarse).reshape(b, h, w, c), 0.0)
        if self.fine_out is None:
            return added, None
        fine = self.fine_out(attended[..., c // self.heads :].reshape(b, h, w, -1))
        return added, jnp.where(kept, unfold(fine, 2), 0.0)

    def _place_bias(self, h: int, w: int) -> Float[Array, "1 heads queries keys"]:
        rows, columns = jnp.meshgrid((jnp.arange(h) + 0.5) / h, (jnp.arange(w) + 0.5) / w, indexing="ij")
        places = jnp.stack([rows, columns], axis=-1).reshape(-1, 2)
        apart = places[None, None, :] - places[None, :, None] - self.offset[...][:, None, None]
        return (-jnp.exp(self.log_precision[...])[:, None, None] * (apart**2).sum(axis=-1))[None]
