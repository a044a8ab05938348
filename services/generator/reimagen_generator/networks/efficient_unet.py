"""Imagen's Efficient U-Net (arXiv 2205.11487, section B.1), with attention to neighbors, for super-resolution.

    x_t, low resolution ─conv─▶ stem ─▶ DBlocks ──maps──▶ UBlocks ─▶ + stem ─conv─▶ prediction
    neighbors (t = 0) ─────────────────▶ DBlocks ──maps──▶ keys, values ──▲

A DBlock halves the side *first*, by a convolution of stride 2, and a UBlock doubles it *last*, so that the blocks work
at half the side. Skip connections are scaled by 1/√2. Beyond the paper, the stem's map is added as an input of the last
convolution, which gives the input a short path to the output at full size.
"""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.networks import EfficientUNetConfig, LevelAttention
from reimagen_generator.networks.attention import AttentionBlock
from reimagen_generator.networks.conditioning import Conditioning
from reimagen_generator.networks.layers import BlockStyle, GroupNorm, ResidualBlock, conv3x3, upsample
from reimagen_generator.networks.neighbors import NeighborAttentions, Neighbors
from reimagen_generator.networks.network import IMAGE_CHANNELS, LowResolution, Network, Text, at_time_zero

_Map = Float[Array, "batch _ _ _"]
"""A feature map. Its sides and channels differ from level to level."""
_Conditioning = Float[Array, "batch conditioning"]
_SKIP_SCALE = 1 / math.sqrt(2)


class _Block(nnx.Module):
    """The residual blocks of one level, in one direction, and the attention after them."""

    def __init__(
        self,
        channels_in: list[int],
        width: int,
        conditioning: int,
        config: EfficientUNetConfig,
        attention: LevelAttention,
        rngs: nnx.Rngs,
    ) -> None:
        dtype = jnp.dtype(config.dtype)
        style = BlockStyle(dtype=dtype)
        self.residual = nnx.List([ResidualBlock(c, width, conditioning, rngs, style=style) for c in channels_in])
        self.attention = (
            None
            if attention is LevelAttention.NONE
            else AttentionBlock(
                width,
                config.text_channels,
                config.head_channels,
                rngs,
                to_text_only=attention is LevelAttention.TEXT,
                dtype=dtype,
            )
        )

    def attend(self, x: _Map, text: Text) -> _Map:
        return x if self.attention is None else self.attention(x, text.tokens, text.mask)


class EfficientUNet(Network):
    """The network of a super-resolution stage."""

    def __init__(self, config: EfficientUNetConfig, rngs: nnx.Rngs) -> None:
        widths, blocks = config.widths, config.blocks
        conditioning = 4 * widths[0]
        stem, dtype = widths[0], jnp.dtype(config.dtype)
        self.config: EfficientUNetConfig = config
        self.conditioning = Conditioning(conditioning, config, rngs)
        self.conv_in = conv3x3(IMAGE_CHANNELS * (2 if config.low_resolution else 1), stem, rngs, dtype=dtype)
        pairs = list(zip((stem, *widths[:-1]), widths, strict=True))
        self.halve = nnx.List([conv3x3(finer, width, rngs, stride=2, dtype=dtype) for finer, width in pairs])
        self.down = nnx.List(
            [
                _Block([width] * count, width, conditioning, config, attention, rngs)
                for width, count, attention in zip(widths, blocks, config.attention, strict=True)
            ]
        )
        self.up = nnx.List(
            [
                _Block([2 * width] * count, width, conditioning, config, attention, rngs)
                for width, count, attention in zip(widths, blocks, config.attention, strict=True)
            ]
        )
        self.double = nnx.List([conv3x3(width, finer, rngs, dtype=dtype) for finer, width in pairs])
        self.neighbor_attention = NeighborAttentions(
            widths, config.neighbor_attention, config.head_channels, rngs, dtype=dtype
        )
        self.norm_out = GroupNorm(2 * stem, num_groups=8, rngs=rngs)
        self.conv_out = conv3x3(2 * stem, config.out_channels, rngs, zero=True)

    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width out"]:
        """Return the prediction for noised images `x` at times in [0, 1]."""
        conditioning = self.conditioning(time, text, low_resolution)
        stem, skips = self._encode(x, conditioning, text, low_resolution)
        h = skips[-1][-1]
        fine: _Map | None = None
        for level in reversed(range(len(self.up))):
            for index, residual in enumerate(self.up[level].residual):
                h = residual(jnp.concatenate([h, skips[level].pop() * _SKIP_SCALE], axis=-1), conditioning)
                if index == 0:
                    h, fine = self.neighbor_attention.attend(level, h, fine, neighbors)
            h = self.double[level](upsample(self.up[level].attend(h, text)))
        h = jnp.concatenate([h, stem * _SKIP_SCALE], axis=-1)
        out = self.conv_out(nnx.silu(self.norm_out(h)))
        return out + low_resolution.image if self.config.residual and low_resolution is not None else out

    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """Return the features of the neighbors that are the same at every step (see `Network`)."""
        flat, low = at_time_zero(images, low_resolution)
        conditioning = self.conditioning(jnp.zeros(flat.shape[0]), text, low)
        _, skips = self._encode(flat, conditioning, text, low)
        return self.neighbor_attention.encode([level[-1] for level in skips], mask)

    def _encode(
        self,
        x: Float[Array, "batch height width 3"],
        conditioning: _Conditioning,
        text: Text,
        low_resolution: LowResolution | None,
    ) -> tuple[_Map, list[list[_Map]]]:
        """Run the DStack: return the stem's map and the outputs of each level's blocks."""
        if low_resolution is not None:
            x = jnp.concatenate([x, low_resolution.image], axis=-1)
        h = stem = self.conv_in(x)
        skips: list[list[_Map]] = []
        for halve, block in zip(self.halve, self.down, strict=True):
            h = halve(h)
            maps = []
            for residual in block.residual:
                h = residual(h, conditioning)
                maps.append(h)
            h = maps[-1] = block.attend(h, text)
            skips.append(maps)
        return stem, skips
