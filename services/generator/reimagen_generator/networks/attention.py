"""Attention within the picture and to the text."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.networks.layers import finite_maximum, nonzero, zero_linear

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


def exclude(mask: Bool[Array, "batch keys"]) -> Float[Array, "batch 1 1 keys"]:
    """The bias that leaves out the keys that a mask does not hold."""
    return jnp.where(mask, 0.0, -jnp.inf)[:, None, None, :]


class AttentionBlock(nnx.Module):
    """Self-attention whose keys and values are joined by the text's tokens (Imagen, section B.1), then a perceptron.

    With `to_text_only`, attention to the text's tokens alone, as Imagen's largest stage has it.
    """

    def __init__(
        self, channels: int, text_channels: int, head_channels: int, rngs: nnx.Rngs, *, to_text_only: bool = False
    ) -> None:
        self.heads = channels // head_channels
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.text_norm = nnx.LayerNorm(text_channels, rngs=rngs)
        self.to_text_only = to_text_only
        self.qkv = nnx.Linear(channels, channels if to_text_only else 3 * channels, rngs=rngs)
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
        query, *own = jnp.split(self.qkv(self.norm(tokens)), 1 if self.to_text_only else 3, axis=-1)
        key, value = jnp.split(self.text_kv(self.text_norm(text)), 2, axis=-1)
        mask = text_mask
        if own:
            key, value = (jnp.concatenate(pair, axis=1) for pair in zip(own, (key, value), strict=True))
            mask = jnp.concatenate([jnp.ones((b, h * w), bool), text_mask], axis=1)
        attended = attend(self._split(query), self._split(key), self._split(value), exclude(mask))
        tokens = tokens + self.out(attended.reshape(b, h * w, c))
        tokens = tokens + self.mlp_out(nnx.gelu(self.mlp_in(self.mlp_norm(tokens))))
        return tokens.reshape(b, h, w, c)

    def _split(self, x: _Tokens) -> Float[Array, "batch length heads channels"]:
        return x.reshape(*x.shape[:2], self.heads, -1)
