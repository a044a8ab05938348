"""Layers that the U-Nets share."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

_NORM_GROUPS = 8


def sinusoidal_embedding(x: Float[Array, " batch"], channels: int) -> Float[Array, "batch channels"]:
    """Sines and cosines of `x` (a time or an augmentation level in [0, 1]), periods from 2π/1000 to 20π."""
    frequencies = 1000.0 * jnp.exp(-math.log(10_000.0) * jnp.arange(channels // 2) / (channels // 2))
    angles = x[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fold(x: Float[Array, "batch height width channels"], side: int) -> Float[Array, "batch h w folded"]:
    """Folds each square of `side` × `side` positions into the channels of one (space to depth)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // side, w // side, side * side * c)


def unfold(x: Float[Array, "batch h w folded"], side: int) -> Float[Array, "batch height width channels"]:
    """The inverse of `fold`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, side, side, c // (side * side))
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * side, w * side, c // (side * side))


def downsample(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
    """The mean of each square of 2 × 2 positions."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def upsample(x: Float[Array, "batch h w channels"]) -> Float[Array, "batch height width channels"]:
    """Each position repeated as a square of 2 × 2."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def zero_linear(channels_in: int, channels_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer that starts as zero, so that what it feeds starts as the identity."""
    return nnx.Linear(
        channels_in, channels_out, kernel_init=nnx.initializers.zeros, bias_init=nnx.initializers.zeros, rngs=rngs
    )


def conv3x3(channels_in: int, channels_out: int, rngs: nnx.Rngs, *, stride: int = 1, zero: bool = False) -> nnx.Conv:
    """A 3 × 3 convolution, `zero` for one that starts as zero."""
    init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    return nnx.Conv(channels_in, channels_out, kernel_size=(3, 3), strides=stride, kernel_init=init, rngs=rngs)


def finite_maximum(logits: Float[Array, "*any"], axis: int) -> Float[Array, "*any"]:
    """The maximum that a softmax subtracts, finite also where all logits are -inf: a softmax over nothing is NaN."""
    return jax.lax.stop_gradient(jnp.maximum(logits.max(axis=axis, keepdims=True), -1e30))


def nonzero(total: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The sum that a softmax divides by; 1 where it is zero, so that gradients stay finite too."""
    return jnp.where(total > 0, total, 1.0)


class TimeEmbedding(nnx.Module):
    """A scalar in [0, 1], a time or an augmentation level, as a vector."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.channels = channels
        self.inner = nnx.Linear(channels, channels, rngs=rngs)
        self.outer = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, " batch"]) -> Float[Array, "batch channels"]:
        """The embedding of each row's scalar."""
        return self.outer(nnx.silu(self.inner(sinusoidal_embedding(x, self.channels))))


class AttentionPool(nnx.Module):
    """Pools a text's tokens into one vector by one learned query a head (Imagen, section B.1)."""

    def __init__(self, channels_in: int, channels_out: int, heads: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(channels_in, rngs=rngs)
        self.score = nnx.Linear(channels_in, heads, rngs=rngs)
        self.value = nnx.Linear(channels_in, channels_out, rngs=rngs)
        self.out = nnx.Linear(channels_out, channels_out, rngs=rngs)
        self.heads = heads

    def __call__(
        self, tokens: Float[Array, "batch length channels"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch out"]:
        """The pooled text; a row whose tokens are all masked gives the constant that stands for "no text"."""
        normed = self.norm(tokens)
        scores = jnp.where(mask[..., None], self.score(normed), -jnp.inf)
        weights = jnp.exp(scores - finite_maximum(scores, axis=1))
        weights = weights / nonzero(weights.sum(axis=1, keepdims=True))
        values = self.value(normed)
        values = values.reshape(*values.shape[:2], self.heads, -1)
        pooled = jnp.einsum("blh,blhc->bhc", weights, values)
        return self.out(pooled.reshape(pooled.shape[0], -1))


class ResidualBlock(nnx.Module):
    """Two 3 × 3 convolutions with scale-and-shift by the conditioning vector (ADM, arXiv 2105.05233)."""

    def __init__(self, channels_in: int, channels_out: int, conditioning: int, rngs: nnx.Rngs) -> None:
        self.norm_in = nnx.GroupNorm(channels_in, num_groups=_NORM_GROUPS, rngs=rngs)
        self.conv_in = conv3x3(channels_in, channels_out, rngs)
        self.modulation = zero_linear(conditioning, 2 * channels_out, rngs)
        self.norm_out = nnx.GroupNorm(channels_out, num_groups=_NORM_GROUPS, rngs=rngs)
        self.conv_out = conv3x3(channels_out, channels_out, rngs, zero=True)
        self.skip = nnx.Linear(channels_in, channels_out, rngs=rngs) if channels_in != channels_out else None

    def __call__(
        self, x: Float[Array, "batch h w channels"], conditioning: Float[Array, "batch conditioning"]
    ) -> Float[Array, "batch h w out"]:
        """One block."""
        scale, shift = jnp.split(self.modulation(jax.nn.silu(conditioning))[:, None, None], 2, axis=-1)
        h = self.conv_in(nnx.silu(self.norm_in(x)))
        h = self.conv_out(nnx.silu(self.norm_out(h) * (1 + scale) + shift))
        return h + (x if self.skip is None else self.skip(x))
