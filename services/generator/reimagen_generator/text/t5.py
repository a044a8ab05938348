"""The encoder of T5 v1.1 (arXiv 1910.10683; the gated GELU of arXiv 2002.05202), of any size.

Pre-norm blocks of self-attention and a gated MLP, without biases. The position of a token is represented only by a bias
on the logits, which depends on the distance of two tokens and is shared by all blocks. The logits are not scaled.
Products use the weights' type; norms, softmax and the residual stream, which grows large in T5, are in float32.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field

_Stream = Float[Array, "batch length channels"]


class T5Config(BaseModel):
    """The encoder's fields of a model's `config.json`, by their names there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["t5"] = "t5"
    feed_forward_proj: Literal["gated-gelu"] = Field(description="MLP of T5 v1.1; the original T5 has relu.")
    vocab_size: int = Field(ge=1)
    d_model: int = Field(ge=1, description="Channels of the residual stream and of the embeddings.")
    d_kv: int = Field(ge=1, description="Channels of an attention head.")
    d_ff: int = Field(ge=1, description="Channels inside the MLP.")
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    relative_attention_num_buckets: int = Field(32, ge=4)
    relative_attention_max_distance: int = Field(128, ge=2)
    layer_norm_epsilon: float = Field(1e-6, gt=0)


T5_XXL = T5Config(
    feed_forward_proj="gated-gelu", vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64
)
"""The encoder of Imagen and DeepFloyd IF."""


def relative_position_buckets(length: int, buckets: int, maximum: int) -> Int[np.ndarray, "length length"]:
    """Return the bucket of the distance from each token (row) to each other (column).

    Half of the buckets are for earlier tokens. In each half, the first half of the buckets stands for one short
    distance each, and the rest for ranges of longer distances in logarithmic steps up to `maximum`.
    """
    place = np.arange(length)
    ahead = place[None] - place[:, None]
    distance = np.abs(ahead)
    half = buckets // 2
    exact = half // 2
    # float32, as in T5's training: it determines where a step begins.
    steps = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / math.log(maximum / exact) * (half - exact)
    far = np.minimum(exact + steps.astype(np.int64), half - 1)
    found: Int[np.ndarray, "length length"] = np.where(ahead > 0, half, 0) + np.where(distance < exact, distance, far)
    return found


def _linear(channels_in: int, channels_out: int, dtype: Any, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(channels_in, channels_out, use_bias=False, dtype=dtype, param_dtype=dtype, rngs=rngs)


def _norm(config: T5Config, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(config.d_model, epsilon=config.layer_norm_epsilon, dtype=jnp.float32, rngs=rngs)


class SelfAttention(nnx.Module):
    """Self-attention of a text's tokens."""

    def __init__(self, config: T5Config, dtype: Any, rngs: nnx.Rngs) -> None:
        inner = config.num_heads * config.d_kv
        self.heads = config.num_heads
        self.norm = _norm(config, rngs)
        self.query, self.key, self.value = (_linear(config.d_model, inner, dtype, rngs) for _ in range(3))
        self.out = _linear(inner, config.d_model, dtype, rngs)

    def __call__(
        self, x: _Stream, bias: Float[Array, "1 heads length length"], mask: Bool[Array, "batch length"]
    ) -> _Stream:
        """Return the update of the stream."""
        normed = self.norm(x)
        query, key, value = (
            layer(normed).reshape(*x.shape[:2], self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        # A masked key has no weight. If all keys are masked, all have equal weight, so that nothing is ever NaN.
        attended = jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask[:, None, None], scale=1.0)
        return self.out(attended.reshape(*x.shape[:2], -1))


class FeedForward(nnx.Module):
    """An MLP gated by a GELU."""

    def __init__(self, config: T5Config, dtype: Any, rngs: nnx.Rngs) -> None:
        self.norm = _norm(config, rngs)
        self.gate, self.linear = (_linear(config.d_model, config.d_ff, dtype, rngs) for _ in range(2))
        self.out = _linear(config.d_ff, config.d_model, dtype, rngs)

    def __call__(self, x: _Stream) -> _Stream:
        """Return the update of the stream."""
        normed = self.norm(x)
        return self.out(jax.nn.gelu(self.gate(normed), approximate=True) * self.linear(normed))


class Block(nnx.Module):
    """Attention, then the MLP."""

    def __init__(self, config: T5Config, dtype: Any, rngs: nnx.Rngs) -> None:
        self.attention = SelfAttention(config, dtype, rngs)
        self.feed_forward = FeedForward(config, dtype, rngs)

    def __call__(
        self, x: _Stream, bias: Float[Array, "1 heads length length"], mask: Bool[Array, "batch length"]
    ) -> _Stream:
        """Return the stream after the block."""
        x = x + self.attention(x, bias, mask)
        return x + self.feed_forward(x)


class T5(nnx.Module):
    """The encoder, from token ids to embeddings."""

    def __init__(self, config: T5Config, dtype: Any, rngs: nnx.Rngs) -> None:
        """Create random weights.

        Args:
            config: The sizes.
            dtype: Type of the weights and the products: float32 or bfloat16. T5's activations overflow float16.
            rngs: Random number generators of the weights.
        """
        self.config = config
        self.embedding = nnx.Embed(config.vocab_size, config.d_model, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.position = nnx.Embed(config.relative_attention_num_buckets, config.num_heads, rngs=rngs)
        self.blocks = nnx.List([Block(config, dtype, rngs) for _ in range(config.num_layers)])
        self.norm = _norm(config, rngs)

    def __call__(self, ids: Int[Array, "batch length"], mask: Bool[Array, "batch length"]) -> _Stream:
        """Return the embeddings in float32, also of the masked tokens, to which no token attends."""
        buckets = relative_position_buckets(
            ids.shape[1], self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance
        )
        bias = self.position(jnp.asarray(buckets)).transpose(2, 0, 1)[None]
        x = self.embedding(ids).astype(jnp.float32)
        for block in self.blocks:
            x = block(x, bias, mask)
        embeddings: _Stream = self.norm(x)
        return embeddings
