"""Layers that the networks share."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Real

Activation = Callable[[Float[Array, "*any"]], Float[Array, "*any"]]

exact_gelu: Activation = partial(jax.nn.gelu, approximate=False)
"""x Φ(x), computed with the error function."""


def sinusoidal_embedding(x: Float[Array, " batch"], channels: int) -> Float[Array, "batch channels"]:
    """Return sines and cosines of `x`, a time or an augmentation level in [0, 1]; periods from 2π/1000 to 20π."""
    frequencies = 1000.0 * jnp.exp(-math.log(10_000.0) * jnp.arange(channels // 2) / (channels // 2))
    angles = x[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fold(x: Float[Array, "batch height width channels"], side: int) -> Float[Array, "batch h w folded"]:
    """Fold each square of `side` × `side` positions into the channels of one position (space to depth)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // side, w // side, side * side * c)


def unfold(x: Float[Array, "batch h w folded"], side: int) -> Float[Array, "batch height width channels"]:
    """Invert `fold`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, side, side, c // (side * side))
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * side, w * side, c // (side * side))


def downsample(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
    """Return the mean of each square of 2 × 2 positions."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def upsample(x: Float[Array, "batch h w channels"]) -> Float[Array, "batch height width channels"]:
    """Repeat each position as a square of 2 × 2."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def zero_linear(channels_in: int, channels_out: int, rngs: nnx.Rngs, *, dtype: jnp.dtype | None = None) -> nnx.Linear:
    """Return a linear layer that starts as zero, so that a residual block that ends with it starts as the identity."""
    zeros = nnx.initializers.zeros
    return nnx.Linear(channels_in, channels_out, kernel_init=zeros, bias_init=zeros, dtype=dtype, rngs=rngs)


def conv3x3(
    channels_in: int,
    channels_out: int,
    rngs: nnx.Rngs,
    *,
    stride: int = 1,
    zero: bool = False,
    dtype: jnp.dtype | None = None,
) -> nnx.Conv:
    """Return a 3 × 3 convolution; with `zero`, it starts as zero."""
    init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    return nnx.Conv(
        channels_in, channels_out, kernel_size=(3, 3), strides=stride, kernel_init=init, dtype=dtype, rngs=rngs
    )


def finite_maximum(logits: Float[Array, "*any"], axis: int) -> Float[Array, "*reduced"]:
    """Return the maximum that a softmax subtracts; finite even if all logits are -inf, so that no NaN arises."""
    return jax.lax.stop_gradient(jnp.maximum(logits.max(axis=axis, keepdims=True), -1e30))


def nonzero(total: Real[Array, "*any"]) -> Float[Array, "*any"]:
    """Return the sum that a softmax divides by, with 0 replaced by 1 so that gradients stay finite too."""
    return jnp.where(total > 0, total, 1.0)


class TimeEmbedding(nnx.Module):
    """The embedding of a scalar in [0, 1], a time or an augmentation level, as a vector."""

    def __init__(
        self,
        channels: int,
        rngs: nnx.Rngs,
        *,
        sinusoids: int | None = None,
        activation: Activation = nnx.silu,
    ) -> None:
        """Create an embedding of `channels` channels.

        Args:
            sinusoids: The number of sines and cosines at the input; None for `channels`.
        """
        self.sinusoids = channels if sinusoids is None else sinusoids
        self.activation = activation
        self.inner = nnx.Linear(self.sinusoids, channels, rngs=rngs)
        self.outer = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, " batch"]) -> Float[Array, "batch channels"]:
        """Return the embedding of each row's scalar."""
        return self.outer(self.activation(self.inner(sinusoidal_embedding(x, self.sinusoids))))


class AttentionPool(nnx.Module):
    """Pooling of a text's tokens into one vector by one learned query per head (Imagen, section B.1)."""

    def __init__(self, channels_in: int, channels_out: int, heads: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(channels_in, rngs=rngs)
        self.score = nnx.Linear(channels_in, heads, rngs=rngs)
        self.value = nnx.Linear(channels_in, channels_out, rngs=rngs)
        self.out = nnx.Linear(channels_out, channels_out, rngs=rngs)
        self.heads = heads

    def __call__(
        self, tokens: Float[Array, "batch length channels"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch out"]:
        """Return the pooled text; a row whose tokens are all masked gives the constant vector of "no text"."""
        normed = self.norm(tokens)
        scores = jnp.where(mask[..., None], self.score(normed), -jnp.inf)
        weights = jnp.exp(scores - finite_maximum(scores, axis=1))
        weights = weights / nonzero(weights.sum(axis=1, keepdims=True))
        values = self.value(normed)
        values = values.reshape(*values.shape[:2], self.heads, -1)
        pooled = jnp.einsum("blh,blhc->bhc", weights, values)
        return self.out(pooled.reshape(pooled.shape[0], -1))


class ClassTokenPool(nnx.Module):
    """Pooling of a text's tokens by attention from a class token, their mean plus a learned vector (DeepFloyd IF).

    With one query, no token needs its own key or value: q·(W_k t) = (W_kᵀ q)·t, and the product of W_v with the
    weighted mean of the tokens is the weighted mean of its products. So no matrix is applied to single tokens.
    """

    def __init__(
        self, channels_in: int, channels_out: int, heads: int, rngs: nnx.Rngs, *, dtype: jnp.dtype | None = None
    ) -> None:
        self.heads = heads
        self.norm_in = nnx.LayerNorm(channels_in, epsilon=1e-5, rngs=rngs)
        self.position = nnx.Param(jax.random.normal(rngs.params(), (channels_in,)) / math.sqrt(channels_in))
        self.query = nnx.Linear(channels_in, channels_in, dtype=dtype, rngs=rngs)
        # A bias would add the same number to all logits of a softmax.
        self.key = nnx.Linear(channels_in, channels_in, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(channels_in, channels_in, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(channels_in, channels_out, dtype=dtype, rngs=rngs)
        self.norm_out = nnx.LayerNorm(channels_out, epsilon=1e-5, rngs=rngs)

    def __call__(
        self, tokens: Float[Array, "batch length channels"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch out"]:
        """Return the pooled text; a row whose tokens are all masked gives the constant vector of "no text"."""
        b, _, c = tokens.shape
        shape = (c, self.heads, c // self.heads)
        normed = jnp.where(mask[..., None], self.norm_in(tokens), 0.0)
        class_token = normed.sum(axis=1) / nonzero(mask.sum(axis=1)[:, None]) + self.position[...]
        normed = jnp.concatenate([class_token[:, None], normed], axis=1)
        mask = jnp.concatenate([jnp.ones((b, 1), bool), mask], axis=1)
        query = self.query(class_token).reshape(b, *shape[1:]) / math.sqrt(shape[2])
        key = jnp.einsum("bhd,chd->bhc", query, self.key.kernel[...].reshape(shape).astype(query.dtype))
        logits = jnp.where(mask[:, None], jnp.einsum("bhc,blc->bhl", key.astype(normed.dtype), normed), -jnp.inf)
        mixed = jnp.einsum("bhl,blc->bhc", jax.nn.softmax(logits, axis=-1), normed).astype(query.dtype)
        value = jnp.einsum("bhc,chd->bhd", mixed, self.value.kernel[...].reshape(shape).astype(query.dtype))
        assert self.value.bias is not None
        pooled: Float[Array, "batch out"] = self.norm_out(self.out(value.reshape(b, c) + self.value.bias[...]))
        return pooled


class GroupNorm(nnx.GroupNorm):
    """A group norm over each row's positions, in float32 or better (arXiv 1803.08494).

    Given the statistics, it is an affine function of each channel. In this form it takes one pass over the map less
    than subtracting the mean first, and the operation that follows can join the same pass.
    """

    def affine(
        self, x: Float[Array, "batch h w channels"]
    ) -> tuple[Float[Array, "batch 1 1 channels"], Float[Array, "batch 1 1 channels"]]:
        """Return the factor and the summand of each channel of these maps."""
        assert self.scale is not None
        assert self.bias is not None
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        # By channel, then by group: a sum whose innermost axis is the channels is a sum of whole vectors.
        mean, square = (self._of_groups(a.mean(axis=(1, 2))) for a in (x, x * x))
        scale = self.scale[...] * jax.lax.rsqrt(jnp.maximum(square - mean**2, 0.0) + self.epsilon)
        return scale[:, None, None], (self.bias[...] - mean * scale)[:, None, None]

    def _of_groups(self, mean: Float[Array, "batch channels"]) -> Float[Array, "batch channels"]:
        groups = mean.reshape(len(mean), self.num_groups, self.group_size)
        return jnp.broadcast_to(groups.mean(axis=2, keepdims=True), groups.shape).reshape(mean.shape)

    def __call__(  # type: ignore[override]  # a map has no mask
        self, x: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch h w channels"]:
        """Return the normalized maps."""
        scale, shift = self.affine(x)
        return x * scale + shift


@dataclass(frozen=True)
class BlockStyle:
    """The settings that all residual blocks of a network share."""

    groups: int = 8
    epsilon: float = 1e-6
    activation: Activation = nnx.silu
    activated: bool = False
    """Whether the conditioning vector arrives activated, once for all blocks."""
    divisor: float = 1.0
    """Divisor of the sum of a block and its skip connection."""
    dtype: jnp.dtype | None = None
    """Type of convolutions and products; None for the type of the inputs and weights. Norms are in float32."""

    def norm(self, channels: int, rngs: nnx.Rngs) -> GroupNorm:
        """Return a group norm."""
        return GroupNorm(channels, num_groups=self.groups, epsilon=self.epsilon, rngs=rngs)


class ResidualBlock(nnx.Module):
    """Two 3 × 3 convolutions with scale-and-shift by the conditioning vector (ADM, arXiv 2105.05233)."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        conditioning: int,
        rngs: nnx.Rngs,
        *,
        style: BlockStyle = BlockStyle(),
        resample: Callable[[Float[Array, "batch h w channels"]], Float[Array, "batch H W channels"]] | None = None,
    ) -> None:
        """Create a block.

        Args:
            style: The settings that all blocks of the network share.
            resample: `downsample` or `upsample`, for a block that changes the side (BigGAN, arXiv 1809.11096).
        """
        self.style = style
        self.resample = resample
        self.norm_in = style.norm(channels_in, rngs)
        self.conv_in = conv3x3(channels_in, channels_out, rngs, dtype=style.dtype)
        self.modulation = zero_linear(conditioning, 2 * channels_out, rngs, dtype=style.dtype)
        self.norm_out = style.norm(channels_out, rngs)
        self.conv_out = conv3x3(channels_out, channels_out, rngs, zero=True, dtype=style.dtype)
        self.skip = (
            nnx.Linear(channels_in, channels_out, dtype=style.dtype, rngs=rngs) if channels_in != channels_out else None
        )

    def __call__(
        self, x: Float[Array, "batch h w channels"], conditioning: Float[Array, "batch conditioning"]
    ) -> Float[Array, "batch H W out"]:
        """Return the output of the block."""
        activation = self.style.activation
        conditioning = conditioning if self.style.activated else activation(conditioning)
        scale, shift = jnp.split(self.modulation(conditioning)[:, None, None], 2, axis=-1)
        h = activation(self.norm_in(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv_in(h)
        norm_scale, norm_shift = self.norm_out.affine(h)
        h = self.conv_out(activation(h * (norm_scale * (1 + scale)) + (norm_shift * (1 + scale) + shift)))
        h = h + (x if self.skip is None else self.skip(x))
        return h if self.style.divisor == 1.0 else h / self.style.divisor
