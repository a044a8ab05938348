"""The BERT encoder (arXiv 1810.04805), of any size. MiniLM and most small sentence encoders are BERTs.

Post-norm blocks of self-attention and an MLP, with biases. The positions are learned vectors, added to the tokens'.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field

from reimagen_generator.networks.layers import exact_gelu

_Stream = Float[Array, "batch length channels"]


class BertConfig(BaseModel):
    """The encoder's fields of a model's `config.json`, by their names there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["bert"] = "bert"
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1, description="Channels of the residual stream and of the embeddings.")
    intermediate_size: int = Field(ge=1, description="Channels inside the MLP.")
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    max_position_embeddings: int = Field(512, ge=2)
    type_vocab_size: int = Field(2, ge=1)
    layer_norm_eps: float = Field(1e-12, gt=0)


def _norm(config: BertConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


class Block(nnx.Module):
    """Attention, then the MLP; each sum is normalized."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        channels = config.hidden_size
        self.heads = config.num_attention_heads
        self.query, self.key, self.value, self.out = (nnx.Linear(channels, channels, rngs=rngs) for _ in range(4))
        self.attention_norm = _norm(config, rngs)
        self.expand = nnx.Linear(channels, config.intermediate_size, rngs=rngs)
        self.contract = nnx.Linear(config.intermediate_size, channels, rngs=rngs)
        self.norm = _norm(config, rngs)

    def __call__(self, x: _Stream, mask: Bool[Array, "batch length"]) -> _Stream:
        """Return the stream after the block."""
        query, key, value = (
            layer(x).reshape(*x.shape[:2], self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None])
        x = self.attention_norm(x + self.out(attended.reshape(x.shape)))
        result: _Stream = self.norm(x + self.contract(exact_gelu(self.expand(x))))
        return result


class Bert(nnx.Module):
    """The encoder, from token ids to embeddings."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        """Create random weights of the configured sizes."""
        self.config = config
        self.tokens = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.positions = nnx.Embed(config.max_position_embeddings, config.hidden_size, rngs=rngs)
        # The types say to which of two texts a token belongs; here there is one text.
        self.types = nnx.Embed(config.type_vocab_size, config.hidden_size, rngs=rngs)
        self.norm = _norm(config, rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.num_hidden_layers)])

    def __call__(self, ids: Int[Array, "batch length"], mask: Bool[Array, "batch length"]) -> _Stream:
        """Return the embeddings, also of the masked tokens, to which no token attends."""
        x = self.tokens(ids) + self.positions(jnp.arange(ids.shape[1])) + self.types(jnp.zeros((), int))
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, mask)
        return x
