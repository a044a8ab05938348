"""A U-Net conditioned on text and on retrieved neighbors (Re-Imagen, section 3.2).

    x_t, low resolution ─fold─▶ DStack ──maps──▶ UStack ─unfold─▶ prediction
    neighbors (t = 0) ─────────▶ DStack ──maps──▶ keys, values ──▲  attention

The neighbors go through the same DStack as the picture, at t = 0 and with their own texts. Their keys and values are
computed once a picture (`encode_neighbors`), not once a step.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.cascade import UNetConfig
from reimagen_generator.networks.attention import AttentionBlock, NeighborAttention, NeighborKeysValues
from reimagen_generator.networks.layers import (
    AttentionPool,
    ResidualBlock,
    TimeEmbedding,
    conv3x3,
    downsample,
    fold,
    unfold,
    upsample,
)

_Map = Float[Array, "batch h w channels"]
_IMAGE_CHANNELS = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Text:
    """Encoded texts; a row whose mask is all false has no text."""

    tokens: Float[Array, "batch length channels"]
    mask: Bool[Array, "batch length"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowResolution:
    """The smaller picture, resized to this stage's size, and the augmentation level at which it was noised."""

    image: Float[Array, "batch height width 3"]
    augmentation: Float[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neighbors:
    """Encoded neighbors: keys and values for each level that attends to them, and which of them are there."""

    levels: list[NeighborKeysValues]
    mask: Bool[Array, "batch neighbors"]


class _Level(nnx.Module):
    """The residual and attention blocks of one level, in one direction."""

    def __init__(
        self, channels_in: list[int], width: int, conditioning: int, config: UNetConfig, attention: bool, rngs: nnx.Rngs
    ) -> None:
        self.residual = nnx.List([ResidualBlock(c, width, conditioning, rngs) for c in channels_in])
        self.attention = nnx.List(
            [AttentionBlock(width, config.text_channels, config.head_channels, rngs) for _ in channels_in]
            if attention
            else []
        )

    def block(self, index: int, x: _Map, conditioning: Float[Array, "batch conditioning"], text: Text) -> _Map:
        x = self.residual[index](x, conditioning)
        return self.attention[index](x, text.tokens, text.mask) if self.attention else x


class UNet(nnx.Module):
    """The network of one stage."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        widths, blocks = config.widths, config.blocks
        conditioning = 4 * widths[0]
        image_channels = _IMAGE_CHANNELS * (2 if config.low_resolution else 1)
        self.config = config
        self.time = TimeEmbedding(conditioning, rngs)
        self.augmentation = TimeEmbedding(conditioning, rngs) if config.low_resolution else None
        self.pool = AttentionPool(config.text_channels, conditioning, conditioning // config.head_channels, rngs)
        self.conv_in = conv3x3(image_channels * config.patch**2, widths[0], rngs)
        self.down = nnx.List(
            [
                _Level([previous] + [width] * (count - 1), width, conditioning, config, attention, rngs)
                for previous, width, count, attention in zip(
                    widths[:1] + widths[:-1], widths, blocks, config.attention, strict=True
                )
            ]
        )
        self.up = nnx.List(
            [
                _Level([below + width] + [2 * width] * (count - 1), width, conditioning, config, attention, rngs)
                for below, width, count, attention in zip(
                    widths[1:] + widths[-1:], widths, blocks, config.attention, strict=True
                )
            ]
        )
        self.neighbor_attention = nnx.Dict(
            {
                str(level): NeighborAttention(
                    widths[level], widths[level - 1] if level else 0, config.head_channels, rngs
                )
                for level in self._neighbor_levels()
            }
        )
        self.norm_out = nnx.GroupNorm(widths[0], num_groups=8, rngs=rngs)
        self.conv_out = conv3x3(widths[0], _IMAGE_CHANNELS * config.patch**2, rngs, zero=True)

    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width 3"]:
        """The prediction for noised pictures `x` at times in [0, 1]."""
        conditioning = self._conditioning(time, text, low_resolution)
        skips = self._encode(x, conditioning, text, low_resolution)
        h = skips[-1][-1]
        fine: _Map | None = None
        for level in reversed(range(len(self.up))):
            for index in range(self.config.blocks[level]):
                h = jnp.concatenate([h, skips[level].pop()], axis=-1)
                h = self.up[level].block(index, h, conditioning, text)
                if index == 0:
                    h, fine = self._attend(level, h, fine, neighbors)
            if level:
                h = upsample(h)
        return unfold(self.conv_out(nnx.silu(self.norm_out(h))), self.config.patch)

    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """What of the neighbors is the same at every step.

        Args:
            images: the neighbors' pictures in [-1, 1].
            text: of batch × neighbors rows, the neighbors' own texts.
            mask: which of the neighbors are there.
            low_resolution: for a super-resolution network, the neighbors' smaller versions, resized.
        """
        b, k = mask.shape
        images = images.reshape(b * k, *images.shape[2:])
        zeros = jnp.zeros(b * k)
        low = None if low_resolution is None else LowResolution(low_resolution.reshape(images.shape), zeros)
        skips = self._encode(images, self._conditioning(zeros, text, low), text, low)
        maps = [level[-1].reshape(b, k, *level[-1].shape[1:]) for level in skips]
        return Neighbors(
            [
                self.neighbor_attention[str(level)].keys_values(maps[level], maps[level - 1] if level else None)
                for level in self._neighbor_levels()
            ],
            mask,
        )

    def _neighbor_levels(self) -> list[int]:
        return [level for level, used in enumerate(self.config.neighbor_attention) if used]

    def _conditioning(
        self, time: Float[Array, " batch"], text: Text, low_resolution: LowResolution | None
    ) -> Float[Array, "batch conditioning"]:
        vector = self.time(time) + self.pool(text.tokens, text.mask)
        if self.augmentation is not None and low_resolution is not None:
            vector = vector + self.augmentation(low_resolution.augmentation)
        return vector

    def _encode(
        self,
        x: Float[Array, "batch height width 3"],
        conditioning: Float[Array, "batch conditioning"],
        text: Text,
        low_resolution: LowResolution | None,
    ) -> list[list[_Map]]:
        """DStack: the outputs of each level's blocks."""
        if low_resolution is not None:
            x = jnp.concatenate([x, low_resolution.image], axis=-1)
        h = self.conv_in(fold(x, self.config.patch))
        skips: list[list[_Map]] = []
        for level, blocks in enumerate(self.down):
            if level:
                h = downsample(h)
            skips.append([])
            for index in range(self.config.blocks[level]):
                h = blocks.block(index, h, conditioning, text)
                skips[level].append(h)
        return skips

    def _attend(self, level: int, h: _Map, fine: _Map | None, neighbors: Neighbors | None) -> tuple[_Map, _Map | None]:
        """Adds what the coarser level fetched for this one, then this level's own attention."""
        if fine is not None:
            h = h + fine
        if neighbors is None or not self.config.neighbor_attention[level]:
            return h, None
        keys_values = neighbors.levels[self._neighbor_levels().index(level)]
        added, fine = self.neighbor_attention[str(level)](h, keys_values, neighbors.mask)
        return h + added, fine


def parameter_count(network: nnx.Module) -> int:
    """Numbers that training changes."""
    return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
