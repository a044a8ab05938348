"""A U-Net conditioned on text and on retrieved neighbors (Re-Imagen, section 3.2).

    x_t, low resolution ─fold─▶ DStack ──maps──▶ UStack ─unfold─▶ prediction
    neighbors (t = 0) ─────────▶ DStack ──maps──▶ keys, values ──▲  attention
    canvases: placed neighbors ─fold─▶ + ─────────────────────────────── tail at full size, copy gates

Beyond the paper, the neighbors' objects are also given as canvases if the stage's network has `placed`
(`networks/placement.py`). They are inputs of the first convolution and of the tail. For each canvas, a gate at each
pixel sets how much of it is copied into the prediction (`diffusion/copying.py`).

The neighbors go through the same DStack as the image, at t = 0 and with their own captions. Their keys and values are
computed once per image (`encode_neighbors`), not once per step.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.networks import UNetConfig
from reimagen_generator.networks.attention import AttentionBlock
from reimagen_generator.networks.conditioning import Conditioning
from reimagen_generator.networks.layers import (
    BlockStyle,
    GroupNorm,
    ResidualBlock,
    conv3x3,
    downsample,
    fold,
    unfold,
    upsample,
)
from reimagen_generator.networks.neighbors import NeighborAttentions, Neighbors, canvases_of
from reimagen_generator.networks.network import IMAGE_CHANNELS, LowResolution, Network, Text, at_time_zero
from reimagen_generator.networks.placement import CANVAS_CHANNELS, CANVASES, copy_gates

_Map = Float[Array, "batch _ _ _"]
"""A feature map. Its sides and channels differ from level to level."""


class _Level(nnx.Module):
    """The residual and attention blocks of one level, in one direction."""

    def __init__(
        self, channels_in: list[int], width: int, conditioning: int, config: UNetConfig, attention: bool, rngs: nnx.Rngs
    ) -> None:
        dtype = jnp.dtype(config.dtype)
        style = BlockStyle(dtype=dtype)
        self.residual = nnx.List([ResidualBlock(c, width, conditioning, rngs, style=style) for c in channels_in])
        self.attention = nnx.List(
            [AttentionBlock(width, config.text_channels, config.head_channels, rngs, dtype=dtype) for _ in channels_in]
            if attention
            else []
        )

    def block(self, index: int, x: _Map, conditioning: Float[Array, "batch conditioning"], text: Text) -> _Map:
        x = self.residual[index](x, conditioning)
        return self.attention[index](x, text.tokens, text.mask) if self.attention else x


class _Tail(nnx.Module):
    """Residual blocks at the image's full size, whose inputs are the input's pixels and the finest map.

    Its contribution to the prediction starts as zero, and the copy gates start nearly closed.
    """

    def __init__(self, config: UNetConfig, seen: int, conditioning: int, rngs: nnx.Rngs) -> None:
        dtype, width = jnp.dtype(config.dtype), config.tail_channels
        self.patch = config.patch
        self.gates = CANVASES if config.placed else 0
        self.map_in = nnx.Linear(config.widths[0], width * config.patch**2, dtype=dtype, rngs=rngs)
        self.pixels_in = conv3x3(seen, width, rngs, dtype=dtype)
        self.block = ResidualBlock(width, width, conditioning, rngs, style=BlockStyle(dtype=dtype))
        self.norm_out = GroupNorm(width, num_groups=8, rngs=rngs)
        self.conv_out = conv3x3(width, config.out_channels + self.gates, rngs, zero=True)

    def __call__(self, h: _Map, seen: _Map, conditioning: Float[Array, "batch conditioning"]) -> _Map:
        h = unfold(self.map_in(h), self.patch) + self.pixels_in(seen)
        h = self.conv_out(nnx.silu(self.norm_out(self.block(h, conditioning))))
        if not self.gates:
            return h
        return jnp.concatenate([h[..., : -self.gates], copy_gates(h[..., -self.gates :])], axis=-1)


class UNet(Network):
    """A U-Net on folded pixels, small enough for sampling and training on two CPU cores."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        widths, blocks = config.widths, config.blocks
        conditioning = 4 * widths[0]
        image_channels = IMAGE_CHANNELS * (2 if config.low_resolution else 1)
        self.config: UNetConfig = config
        self.conditioning = Conditioning(conditioning, config, rngs)
        dtype = jnp.dtype(config.dtype)
        self.conv_in = conv3x3(image_channels * config.patch**2, widths[0], rngs, dtype=dtype)
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
        self.neighbor_attention = NeighborAttentions(
            widths, config.neighbor_attention, config.head_channels, rngs, dtype=dtype
        )
        canvas_channels = CANVAS_CHANNELS if config.placed else 0
        self.placed_in = (
            conv3x3(canvas_channels * config.patch**2, widths[0], rngs, zero=True, dtype=dtype)
            if config.placed
            else None
        )
        self.norm_out = GroupNorm(widths[0], num_groups=8, rngs=rngs)
        self.conv_out = conv3x3(widths[0], config.out_channels * config.patch**2, rngs, zero=True)
        self.tail = (
            _Tail(config, image_channels + canvas_channels, conditioning, rngs) if config.tail_channels else None
        )

    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width out"]:
        """Return the prediction for noised images `x` at times in [0, 1], and the copy gate of each canvas."""
        conditioning = self.conditioning(time, text, low_resolution)
        canvas_maps = canvases_of(neighbors, x) if self.config.placed else None
        skips = self._encode(x, conditioning, text, low_resolution, canvas_maps)
        h = skips[-1][-1]
        fine: _Map | None = None
        for level in reversed(range(len(self.up))):
            for index in range(self.config.blocks[level]):
                h = jnp.concatenate([h, skips[level].pop()], axis=-1)
                h = self.up[level].block(index, h, conditioning, text)
                if index == 0:
                    h, fine = self.neighbor_attention.attend(level, h, fine, neighbors)
            if level:
                h = upsample(h)
        h = nnx.silu(self.norm_out(h))
        output = unfold(self.conv_out(h), self.config.patch)
        if self.tail is None:
            return output
        seen = [x] if low_resolution is None else [x, low_resolution.image]
        added = self.tail(
            h, jnp.concatenate(seen if canvas_maps is None else [*seen, canvas_maps], axis=-1), conditioning
        )
        gates = added[..., output.shape[-1] :]
        return jnp.concatenate([output + added[..., : output.shape[-1]], gates], axis=-1)

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
        skips = self._encode(flat, conditioning, text, low)
        return self.neighbor_attention.encode([level[-1] for level in skips], mask)

    def _encode(
        self,
        x: Float[Array, "batch height width 3"],
        conditioning: Float[Array, "batch conditioning"],
        text: Text,
        low_resolution: LowResolution | None,
        canvas_maps: _Map | None = None,
    ) -> list[list[_Map]]:
        """Run the DStack: return the outputs of each level's blocks."""
        if low_resolution is not None:
            x = jnp.concatenate([x, low_resolution.image], axis=-1)
        h = self.conv_in(fold(x, self.config.patch))
        if self.placed_in is not None and canvas_maps is not None:
            h = h + self.placed_in(fold(canvas_maps, self.config.patch))
        skips: list[list[_Map]] = []
        for level, blocks in enumerate(self.down):
            if level:
                h = downsample(h)
            skips.append([])
            for index in range(self.config.blocks[level]):
                h = blocks.block(index, h, conditioning, text)
                skips[level].append(h)
        return skips
