"""Imagen's base U-Net (arXiv 2205.11487, section B.1), also that of DeepFloyd IF, with attention to neighbors.

    x_t, low resolution ─conv─▶ blocks, halve … ─▶ middle ─▶ blocks, double … ─conv─▶ prediction
    neighbors (t = 0) ────────▶ blocks, halve … ──maps──▶ keys, values ──▲

Residual blocks also halve and double the side ("BigGAN" blocks, arXiv 1809.11096). Every output of the downward half,
including the map of the first convolution and the halved maps, is a skip connection to the upward half.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.networks import Activation, ImagenUNetConfig, LevelAttention
from reimagen_generator.networks.attention import TextAttention
from reimagen_generator.networks.layers import (
    BlockStyle,
    ClassTokenPool,
    ResidualBlock,
    TimeEmbedding,
    conv3x3,
    downsample,
    exact_gelu,
    upsample,
)
from reimagen_generator.networks.neighbors import NeighborAttentions, Neighbors
from reimagen_generator.networks.network import IMAGE_CHANNELS, LowResolution, Network, Text, at_time_zero

_Map = Float[Array, "batch _ _ _"]
"""A feature map. Its sides and channels differ from level to level."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Context:
    """The conditions of every block."""

    conditioning: Float[Array, "batch conditioning"]
    tokens: Float[Array, "batch length channels"]
    mask: Bool[Array, "batch length"]


class _Block(nnx.Module):
    """A residual block, followed by attention at the levels that attend."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        attention: LevelAttention,
        config: ImagenUNetConfig,
        style: BlockStyle,
        rngs: nnx.Rngs,
    ) -> None:
        self.residual = ResidualBlock(channels_in, channels_out, config.conditioning, rngs, style=style)
        self.attention = (
            None
            if attention is LevelAttention.NONE
            else TextAttention(
                channels_out,
                config.text_width,
                config.head_channels,
                rngs,
                to_text_only=attention is LevelAttention.TEXT,
                text_norm=config.text_norm,
                dtype=style.dtype,
            )
        )

    def __call__(self, x: _Map, context: _Context) -> _Map:
        x = self.residual(x, context.conditioning)
        return x if self.attention is None else self.attention(x, context.tokens, context.mask)


class _Level(nnx.Module):
    """The blocks of one level, in one direction, followed by the block that changes the side."""

    def __init__(self, blocks: list[_Block], resample: ResidualBlock | None) -> None:
        self.blocks = nnx.List(blocks)
        self.resample = resample


class _Conditioning(nnx.Module):
    """From time, text and augmentation level to the conditions of the blocks."""

    def __init__(self, config: ImagenUNetConfig, style: BlockStyle, rngs: nnx.Rngs) -> None:
        channels, sinusoids = config.conditioning, config.widths[0]
        self.config = config
        self.style = style
        self.time = TimeEmbedding(channels, rngs, sinusoids=sinusoids, activation=style.activation)
        self.augmentation = (
            TimeEmbedding(channels, rngs, sinusoids=sinusoids, activation=style.activation)
            if config.low_resolution
            else None
        )
        self.pool = ClassTokenPool(config.text_channels, channels, config.pool_heads, rngs, dtype=style.dtype)
        self.text = nnx.Linear(config.text_channels, config.text_width, dtype=style.dtype, rngs=rngs)

    def __call__(self, time: Float[Array, " batch"], text: Text, low_resolution: LowResolution | None) -> _Context:
        mask = text.mask
        if self.config.sees_padding:
            mask = jnp.broadcast_to(mask.any(axis=1, keepdims=True), mask.shape)
        vector = self.time(time) + self.pool(text.tokens, mask)
        if self.augmentation is not None and low_resolution is not None:
            vector = vector + self.augmentation(low_resolution.augmentation)
        if self.config.activate_once:
            vector = self.style.activation(vector)
        return _Context(vector, self.text(text.tokens), mask)


class ImagenUNet(Network):
    """The network of a stage: Imagen's 64 × 64 base, or DeepFloyd IF's stage I or II."""

    def __init__(self, config: ImagenUNetConfig, rngs: nnx.Rngs) -> None:
        self.config: ImagenUNetConfig = config
        self.style = BlockStyle(
            groups=32,
            epsilon=1e-5,
            activation=exact_gelu if config.activation is Activation.GELU else nnx.silu,
            activated=config.activate_once,
            divisor=config.residual_divisor,
            dtype=jnp.dtype(config.dtype),
        )
        widths, width = config.widths, config.widths[0]
        self.conditioning = _Conditioning(config, self.style, rngs)
        image_channels = IMAGE_CHANNELS * (2 if config.low_resolution else 1)
        self.conv_in = conv3x3(image_channels, width, rngs, dtype=self.style.dtype)
        skips = [width]
        self.down = nnx.List([self._down(level, skips, rngs) for level in range(len(widths))])
        bottom, middle = widths[-1], replace(self.style, divisor=config.middle_divisor)
        self.middle_in = _Block(bottom, bottom, config.middle_attention, config, middle, rngs)
        self.middle_out = _Block(bottom, bottom, LevelAttention.NONE, config, middle, rngs)
        self.up = nnx.List([self._up(level, skips, rngs) for level in reversed(range(len(widths)))])
        self.neighbor_attention = NeighborAttentions(
            widths, config.neighbor_attention, config.head_channels, rngs, dtype=self.style.dtype
        )
        self.norm_out = self.style.norm(width, rngs)
        self.conv_out = conv3x3(width, config.out_channels, rngs, zero=True)

    def _down(self, level: int, skips: list[int], rngs: nnx.Rngs) -> _Level:
        """Build a level of the downward half and append the channels of its outputs to `skips`."""
        config, width = self.config, self.config.widths[level]
        blocks = []
        for _ in range(config.blocks[level]):
            blocks.append(_Block(skips[-1], width, config.attention[level], config, self.style, rngs))
            skips.append(width)
        if level == len(config.widths) - 1:
            return _Level(blocks, None)
        skips.append(width)
        return _Level(
            blocks, ResidualBlock(width, width, config.conditioning, rngs, style=self.style, resample=downsample)
        )

    def _up(self, level: int, skips: list[int], rngs: nnx.Rngs) -> _Level:
        """Build a level of the upward half, which takes its skip connections from the end of `skips`."""
        config, width = self.config, self.config.widths[level]
        h = config.widths[min(level + 1, len(config.widths) - 1)]
        blocks = []
        for _ in range(config.blocks[level] + 1):
            blocks.append(_Block(h + skips.pop(), width, config.attention[level], config, self.style, rngs))
            h = width
        if level == 0:
            return _Level(blocks, None)
        return _Level(
            blocks, ResidualBlock(width, width, config.conditioning, rngs, style=self.style, resample=upsample)
        )

    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width out"]:
        """Return the prediction for noised images `x` at times in [0, 1]; DeepFloyd IF's timestep n is n / 1000."""
        context = self.conditioning(time, text, low_resolution)
        skips, _ = self._encode(x, context, low_resolution)
        h = self._run(self.middle_in, skips[-1], context)
        h = self._run(self.middle_out, h, context)
        fine: _Map | None = None
        for level, up in zip(reversed(range(len(self.up))), self.up, strict=True):
            for index, block in enumerate(up.blocks):
                h = self._run(block, jnp.concatenate([h, skips.pop()], axis=-1), context)
                if index == 0:
                    h, fine = self.neighbor_attention.attend(level, h, fine, neighbors)
            if up.resample is not None:
                h = self._run(up.resample, h, context)
        return self.conv_out(self.style.activation(self.norm_out(h)))

    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """Return the features of the neighbors that are the same at every step (see `Network`)."""
        flat, low = at_time_zero(images, low_resolution)
        context = self.conditioning(jnp.zeros(flat.shape[0]), text, low)
        _, maps = self._encode(flat, context, low)
        return self.neighbor_attention.encode(maps, mask)

    def _encode(
        self, x: Float[Array, "batch height width 3"], context: _Context, low_resolution: LowResolution | None
    ) -> tuple[list[_Map], list[_Map]]:
        """Run the DStack: return every map that is a skip connection, and the last map of each level."""
        if low_resolution is not None:
            x = jnp.concatenate([x, low_resolution.image], axis=-1)
        skips, maps = [self.conv_in(x)], []
        for down in self.down:
            for block in down.blocks:
                skips.append(self._run(block, skips[-1], context))
            maps.append(skips[-1])
            if down.resample is not None:
                skips.append(self._run(down.resample, skips[-1], context))
        return skips, maps

    def _run(self, block: _Block | ResidualBlock, x: _Map, context: _Context) -> _Map:
        """Run a block; with `checkpointing`, its inner results are recomputed for the gradient."""
        if not self.config.checkpointing:
            return _call(block, x, context)
        # nnx.remat fails inside a compiled loop, which training uses to draw sheets of samples.
        graph, parameters = nnx.split(block)
        recompute = jax.checkpoint(lambda parameters, x, context: _call(nnx.merge(graph, parameters), x, context))
        result: _Map = recompute(parameters, x, context)
        return result


def _call(block: _Block | ResidualBlock, x: _Map, context: _Context) -> _Map:
    return block(x, context) if isinstance(block, _Block) else block(x, context.conditioning)
