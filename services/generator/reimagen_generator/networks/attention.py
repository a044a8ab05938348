"""Attention within the image and to the text."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.networks import TextNorm
from reimagen_generator.networks.layers import GroupNorm, finite_maximum, nonzero, zero_linear

_Tokens = Float[Array, "batch length channels"]
_Queries = Float[Array, "batch queries channels"]
_Text = Float[Array, "batch length text_channels"]


CPU_CACHE = 4 * 2**20
"""Bytes of attention logits that stay in a CPU's caches between the two products. Below this size, a loop only adds
overhead."""


def attend(
    query: Float[Array, "batch queries heads channels"],
    key: Float[Array, "batch keys heads channels"],
    value: Float[Array, "batch keys heads values"],
    bias: Float[Array, "#batch #heads #queries keys"],
) -> Float[Array, "batch queries heads values"]:
    """Return softmax attention with a bias on the logits; the softmax is computed in float32 or better.

    A bias of -inf excludes a key; a query all of whose keys are excluded gets exactly zero.
    """
    # Plain batched products: einsum over an inner head axis is much slower on the CPU.
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    b, h, queries, _ = query.shape
    attended: Array
    if 4 * b * h * queries * key.shape[2] > CPU_CACHE:
        # Chosen at compile time, so that a program for an accelerator does not contain the loop.
        attended = jax.lax.platform_dependent(query, key, value, bias, cpu=attend_by_head, default=attend_at_once)
    else:
        attended = attend_at_once(query, key, value, bias)
    return attended.transpose(0, 2, 1, 3)


def attend_at_once(
    query: Float[Array, "*b queries channels"],
    key: Float[Array, "*b keys channels"],
    value: Float[Array, "*b keys values"],
    bias: Float[Array, "*#b #queries keys"],
) -> Float[Array, "*b queries values"]:
    """Compute the attention of all heads and rows in one batched product."""
    precision = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.matmul(query, key.swapaxes(-1, -2), preferred_element_type=precision)
    logits = logits / jnp.sqrt(query.shape[-1]) + bias
    weights = jnp.exp(logits - finite_maximum(logits, axis=-1))
    attended = jnp.matmul(weights.astype(value.dtype), value, preferred_element_type=precision)
    # Dividing after the second product touches far fewer numbers than dividing the weights.
    attended = attended / nonzero(weights.sum(axis=-1, keepdims=True))
    return attended.astype(value.dtype)


def attend_by_head(
    query: Float[Array, "batch heads queries channels"],
    key: Float[Array, "batch heads keys channels"],
    value: Float[Array, "batch heads keys values"],
    bias: Float[Array, "#batch #heads #queries keys"],
) -> Float[Array, "batch heads queries values"]:
    """Compute the attention of each row and head in turn, so that the logits stay in the cache."""
    bias = jnp.broadcast_to(bias, (*query.shape[:2], *bias.shape[2:]))
    flattened = [x.reshape(-1, *x.shape[2:]) for x in (query, key, value, bias)]
    attended: Array = jax.lax.map(lambda one: attend_at_once(*one), flattened)
    return attended.reshape(*query.shape[:3], -1)


def exclude(
    mask: Bool[Array, "batch keys"], log_weights: Float[Array, "batch keys"] | None = None
) -> Float[Array, "batch 1 1 keys"]:
    """Return the bias that excludes the keys outside of the mask.

    Args:
        mask: Which keys exist.
        log_weights: Logarithms of the keys' weights: a key of weight 2 counts like two equal keys. None: all weights
            are 1.
    """
    return jnp.where(mask, 0.0 if log_weights is None else log_weights, -jnp.inf)[:, None, None, :]


def exclude_neighbors(
    mask: Bool[Array, "batch neighbors"], log_weights: Float[Array, "batch neighbors"] | None, keys: int
) -> Float[Array, "batch 1 1 all_keys"]:
    """Return the bias that excludes the neighbors outside of the mask and weights the others (see `exclude`).

    Args:
        mask: Which neighbors exist.
        log_weights: Logarithms of the neighbors' weights; None: all weights are 1.
        keys: Number of keys of each neighbor, which follow each other.
    """
    weights = None if log_weights is None else jnp.repeat(log_weights, keys, axis=1)
    return exclude(jnp.repeat(mask, keys, axis=1), weights)


def attend_with_text(
    query: _Queries, own: list[_Queries], text: list[_Tokens], text_mask: Bool[Array, "batch length"], heads: int
) -> _Queries:
    """Return the attention to the tokens of the text and to those of the map itself.

    Args:
        own: The map's keys and values; empty for attention to the text alone.
        text: The text's keys and values.
    """
    pairs, mask = text, text_mask
    if own:
        pairs = [jnp.concatenate(pair, axis=1) for pair in zip(own, text, strict=True)]
        mask = jnp.concatenate([jnp.ones(own[0].shape[:2], bool), text_mask], axis=1)
    split_query, key, value = (x.reshape(*x.shape[:2], heads, -1) for x in (query, *pairs))
    return attend(split_query, key, value, exclude(mask)).reshape(query.shape)


class AttentionBlock(nnx.Module):
    """Self-attention whose keys and values are joined by the text's tokens (Imagen, section B.1), then an MLP.

    With `to_text_only`, attention to the text's tokens alone, as in Imagen's largest stage.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        head_channels: int,
        rngs: nnx.Rngs,
        *,
        to_text_only: bool = False,
        dtype: jnp.dtype | None = None,
    ) -> None:
        self.heads = channels // head_channels
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.text_norm = nnx.LayerNorm(text_channels, rngs=rngs)
        self.to_text_only = to_text_only
        self.qkv = nnx.Linear(channels, channels if to_text_only else 3 * channels, dtype=dtype, rngs=rngs)
        self.text_kv = nnx.Linear(text_channels, 2 * channels, dtype=dtype, rngs=rngs)
        self.out = zero_linear(channels, channels, rngs, dtype=dtype)
        self.mlp_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.mlp_in = nnx.Linear(channels, 2 * channels, dtype=dtype, rngs=rngs)
        self.mlp_out = zero_linear(2 * channels, channels, rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "batch h w channels"], text: _Text, text_mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch h w channels"]:
        """Return the output of the block."""
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)
        query, *own = jnp.split(self.qkv(self.norm(tokens)), 1 if self.to_text_only else 3, axis=-1)
        text_kv = jnp.split(self.text_kv(self.text_norm(text)), 2, axis=-1)
        tokens = tokens + self.out(attend_with_text(query, own, text_kv, text_mask, self.heads))
        tokens = tokens + self.mlp_out(nnx.gelu(self.mlp_in(self.mlp_norm(tokens))))
        return tokens.reshape(b, h, w, c)


class TokenGroupNorm(nnx.Module):
    """A group norm over a text's tokens, as in DeepFloyd IF: one mean and variance for each row and group."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.GroupNorm(channels, num_groups=32, epsilon=1e-5, dtype=jnp.float32, rngs=rngs)

    def __call__(self, tokens: _Tokens, mask: Bool[Array, "batch length"]) -> _Tokens:
        """Return the tokens, normalized by the statistics of the tokens in the mask."""
        # Without any token the mean would be 0 / 0. Attention ignores the output of a row without text.
        counted = mask | ~mask.any(axis=1, keepdims=True)
        normed: _Tokens = self.norm(tokens, mask=jnp.broadcast_to(counted[..., None], tokens.shape))
        return normed


class TokenLayerNorm(nnx.Module):
    """A layer norm of each token, as in Imagen (arXiv 2205.11487, section B.1)."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(channels, epsilon=1e-5, dtype=jnp.float32, rngs=rngs)

    def __call__(self, tokens: _Tokens, mask: Bool[Array, "batch length"]) -> _Tokens:
        """Return the tokens, each normalized on its own."""
        normed: _Tokens = self.norm(tokens)
        return normed


class TextAttention(nnx.Module):
    """Self-attention whose keys and values are joined by the text's tokens, added to its input (Imagen, section B.1).

    It differs from `AttentionBlock` as in ADM and DeepFloyd IF: it has a group norm in front, and no MLP.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        head_channels: int,
        rngs: nnx.Rngs,
        *,
        to_text_only: bool,
        text_norm: TextNorm,
        dtype: jnp.dtype | None,
    ) -> None:
        self.heads = channels // head_channels
        self.to_text_only = to_text_only
        self.norm = GroupNorm(channels, num_groups=32, epsilon=1e-5, rngs=rngs)
        norm = TokenGroupNorm if text_norm is TextNorm.GROUP else TokenLayerNorm
        self.text_norm = norm(text_channels, rngs)
        self.qkv = nnx.Linear(channels, channels if to_text_only else 3 * channels, dtype=dtype, rngs=rngs)
        self.text_kv = nnx.Linear(text_channels, 2 * channels, dtype=dtype, rngs=rngs)
        self.out = zero_linear(channels, channels, rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "batch h w channels"], text: _Text, text_mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch h w channels"]:
        """Return the map plus the attention."""
        b, h, w, c = x.shape
        query, *own = jnp.split(self.qkv(self.norm(x).reshape(b, h * w, c)), 1 if self.to_text_only else 3, axis=-1)
        text_kv = jnp.split(self.text_kv(self.text_norm(text, text_mask)), 2, axis=-1)
        return x + self.out(attend_with_text(query, own, text_kv, text_mask, self.heads)).reshape(b, h, w, c)
