"""The transformer that CLIP's towers, DINO and DINOv2 share, and the ViT that their image networks share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

_Stream = Float[Array, "batch length channels"]

Activation = Literal["gelu", "quick_gelu"]
_ACTIVATIONS: dict[Activation, Callable[[_Stream], _Stream]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


@dataclass(frozen=True)
class TransformerConfig:
    """The configuration of pre-norm blocks of self-attention and a perceptron."""

    width: int
    layers: int
    heads: int
    hidden: int
    """Channels inside the perceptron."""
    activation: Activation
    epsilon: float
    """Epsilon of the layer norms."""
    layer_scale: bool = False
    """Whether a block's output is scaled by a learned factor per channel."""
    gated: bool = False
    """Whether the perceptron is gated by a SiLU; its activation is then not used."""
    causal: bool = False
    """Whether a token attends only to itself and to earlier tokens."""


class SelfAttention(nnx.Module):
    """Self-attention of tokens."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
        self.heads, self.causal = config.heads, config.causal
        self.qkv = nnx.Linear(config.width, 3 * config.width, rngs=rngs)
        self.out = nnx.Linear(config.width, config.width, rngs=rngs)

    def __call__(self, x: _Stream) -> _Stream:
        """Return the attention output of each token."""
        query, key, value = (part.reshape(*x.shape[:2], self.heads, -1) for part in jnp.split(self.qkv(x), 3, axis=-1))
        attended = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(attended.reshape(x.shape))


class Perceptron(nnx.Module):
    """A perceptron of two layers; if gated, the first is twice as wide and its first half is the gate."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
        self.activation = None if config.gated else config.activation
        self.inner = nnx.Linear(config.width, (2 if config.gated else 1) * config.hidden, rngs=rngs)
        self.out = nnx.Linear(config.hidden, config.width, rngs=rngs)

    def __call__(self, x: _Stream) -> _Stream:
        """Return the perceptron's output for each token."""
        h = self.inner(x)
        if self.activation is None:
            gate, value = jnp.split(h, 2, axis=-1)
            return self.out(jax.nn.silu(gate) * value)
        return self.out(_ACTIVATIONS[self.activation](h))


class Block(nnx.Module):
    """Attention, then the perceptron, each behind a norm and added to the stream."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
        self.attention_norm, self.perceptron_norm = (
            nnx.LayerNorm(config.width, epsilon=config.epsilon, rngs=rngs) for _ in range(2)
        )
        self.attention = SelfAttention(config, rngs)
        self.perceptron = Perceptron(config, rngs)
        self.attention_scale, self.perceptron_scale = (
            nnx.Param(jnp.ones(config.width)) if config.layer_scale else None for _ in range(2)
        )

    def __call__(self, x: _Stream) -> _Stream:
        """Return the stream after the block."""
        x = x + _scaled(self.attention(self.attention_norm(x)), self.attention_scale)
        return x + _scaled(self.perceptron(self.perceptron_norm(x)), self.perceptron_scale)


def _scaled(x: _Stream, scale: nnx.Param[Array] | None) -> _Stream:
    return x if scale is None else x * scale[...]


class Transformer(nnx.Module):
    """A sequence of blocks and a final norm."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = nnx.LayerNorm(config.width, epsilon=config.epsilon, rngs=rngs)

    def __call__(self, x: _Stream) -> _Stream:
        """Return the stream after all blocks and the final norm."""
        for block in self.blocks:
            x = block(x)
        normed: _Stream = self.norm(x)
        return normed


@dataclass(frozen=True)
class ViTConfig:
    """The configuration of a vision transformer (arXiv 2010.11929)."""

    transformer: TransformerConfig
    side: int
    """Side in pixels of the images that the position embeddings are for."""
    patch: int
    patch_bias: bool = True
    norm_in: bool = False
    """Whether there is a norm before the first block, as in CLIP."""
    projection: int | None = None
    """Channels of the space that the class token is projected to; None for no projection."""

    @property
    def channels(self) -> int:
        """The number of features per image."""
        return self.projection or self.transformer.width


class ViT(nnx.Module):
    """A vision transformer, from images to the class token after the last norm."""

    def __init__(self, config: ViTConfig, rngs: nnx.Rngs) -> None:
        width, patch = config.transformer.width, (config.patch, config.patch)
        self.patches = nnx.Conv(3, width, patch, strides=patch, padding="VALID", use_bias=config.patch_bias, rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, width)))
        self.places = nnx.Param(jnp.zeros((1 + (config.side // config.patch) ** 2, width)))
        epsilon = config.transformer.epsilon
        self.norm_in = nnx.LayerNorm(width, epsilon=epsilon, rngs=rngs) if config.norm_in else None
        self.transformer = Transformer(config.transformer, rngs)
        self.projection = (
            None if config.projection is None else nnx.Linear(width, config.projection, use_bias=False, rngs=rngs)
        )

    def __call__(self, images: Float[Array, "batch side side 3"]) -> Float[Array, "batch features"]:
        """Return the features of normalized square images of any size."""
        x = self.patches(images)
        batch, height, _, width = x.shape
        token = jnp.broadcast_to(self.class_token[...], (batch, 1, width))
        x = jnp.concatenate([token, x.reshape(batch, -1, width)], axis=1) + places_for(self.places[...], height)
        if self.norm_in is not None:
            x = self.norm_in(x)
        pooled = self.transformer(x)[:, 0]
        return pooled if self.projection is None else self.projection(pooled)


def places_for(places: Float[Array, "places channels"], grid: int) -> Float[Array, "resized channels"]:
    """Return the position embeddings of the class token and of the patches of an image of `grid` × `grid` patches.

    They are interpolated from the learned grid with PyTorch's bicubic filter: Keys' with a = -0.75, without
    antialiasing when the grid shrinks.
    """
    learned = round((places.shape[0] - 1) ** 0.5)
    if learned == grid:
        return places
    weights = _bicubic(learned, grid)
    square = places[1:].reshape(learned, learned, -1)
    between = jnp.einsum("Hh,Ww,hwc->HWc", weights, weights, square)
    return jnp.concatenate([places[:1], between.reshape(grid * grid, -1)])


def _bicubic(old: int, new: int) -> Float[np.ndarray, "new old"]:
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for row, center in enumerate(centers):
        for place in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            weights[row, min(max(place, 0), old - 1)] += _keys(abs(center - place))
    return weights.astype(np.float32)


def _keys(distance: float, a: float = -0.75) -> float:
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    if distance < 2:
        return a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return 0.0
