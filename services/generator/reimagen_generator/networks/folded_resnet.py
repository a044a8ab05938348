"""A residual network for super-resolution on the grid of the low-resolution image.

    x_t ────────────────────fold─▶ conv_in ─┐
    low-resolution image ───fold─▶ low_in ──┼▶ blocks ─conv_out─▶ unfold ─▶ + low-resolution image, upsampled
    canvases ───────────────fold─▶ placed_in ┘                          └─▶ copy gates

Each square of `factor` × `factor` pixels is folded into the channels of one position (as in ESPCN, arXiv 1609.05158),
so a block costs as much as at the size of the low-resolution image. The network predicts the difference to the
upsampled image, which is zero at first. It has no norms, since their statistics would differ between a crop and a whole
image. It ignores the text: the low-resolution image already shows what it describes. If the configuration has
`placed`, the network sees the neighbors' objects at their places, in the detail that the low-resolution image has lost,
and a gate at each pixel sets how much of them is copied (`diffusion/copying.py`).
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.networks import FoldedResNetConfig
from reimagen_generator.networks.layers import TimeEmbedding, conv3x3, fold, unfold, zero_linear
from reimagen_generator.networks.neighbors import Neighbors, canvases_of
from reimagen_generator.networks.network import IMAGE_CHANNELS, LowResolution, Network, Text
from reimagen_generator.networks.placement import CANVAS_CHANNELS, CANVASES, copy_gates

_Map = Float[Array, "batch h w channels"]
_Conditioning = Float[Array, "batch conditioning"]

_CONDITIONING_CHANNELS = 64
_OUTPUT_SCALE = 0.1
"""Scale of the predicted difference, which is small, and of the copy gates. Without it, Adam's steps in the last layer,
which sums over hundreds of numbers, would be as large as the difference itself, and would close the gates for good
before the network can tell where the canvases are right."""


class _Block(nnx.Module):
    """Two convolutions with scale-and-shift by the conditioning vector between them, added to the input."""

    def __init__(self, width: int, rngs: nnx.Rngs, dtype: jnp.dtype) -> None:
        self.conv_in = conv3x3(width, width, rngs, dtype=dtype)
        self.modulation = zero_linear(_CONDITIONING_CHANNELS, 2 * width, rngs, dtype=dtype)
        self.conv_out = conv3x3(width, width, rngs, zero=True, dtype=dtype)

    def __call__(self, x: _Map, conditioning: _Conditioning) -> _Map:
        scale, shift = jnp.split(self.modulation(conditioning)[:, None, None], 2, axis=-1)
        return x + self.conv_out(nnx.silu(self.conv_in(x) * (1 + scale) + shift))


class FoldedResNet(Network):
    """The network of a super-resolution stage that is cheap on a CPU."""

    def __init__(self, config: FoldedResNetConfig, rngs: nnx.Rngs) -> None:
        width, dtype = config.width, jnp.dtype(config.dtype)
        folded = IMAGE_CHANNELS * config.factor**2
        self.config: FoldedResNetConfig = config
        self.time = TimeEmbedding(_CONDITIONING_CHANNELS, rngs)
        self.augmentation = TimeEmbedding(_CONDITIONING_CHANNELS, rngs)
        self.conv_in = conv3x3(folded, width, rngs, dtype=dtype)
        self.low_in = conv3x3(folded, width, rngs, dtype=dtype)
        self.modulation = zero_linear(_CONDITIONING_CHANNELS, 3 * width, rngs, dtype=dtype)
        self.blocks = nnx.List([_Block(width, rngs, dtype) for _ in range(config.blocks)])
        self.placed_in = (
            conv3x3(CANVAS_CHANNELS * config.factor**2, width, rngs, zero=True, dtype=dtype) if config.placed else None
        )
        gates = CANVASES if config.placed else 0
        self.conv_out = conv3x3(width, (IMAGE_CHANNELS + gates) * config.factor**2, rngs, zero=True)

    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width out"]:
        """Return the prediction for noised images `x` at times in [0, 1], and the copy gate of each canvas."""
        assert low_resolution is not None
        conditioning = nnx.silu(self.time(time) + self.augmentation(low_resolution.augmentation))
        noised_scale, low_scale, shift = jnp.split(self.modulation(conditioning)[:, None, None], 3, axis=-1)
        noised = self.conv_in(fold(x, self.config.factor))
        low = self.low_in(fold(low_resolution.image, self.config.factor))
        # Scaled separately, so that the low-resolution image can be subtracted from x_t at any noise level.
        h = noised * (1 + noised_scale) + low * (1 + low_scale) + shift
        if self.placed_in is not None:
            h = h + self.placed_in(fold(canvases_of(neighbors, x), self.config.factor))
        for block in self.blocks:
            h = block(h, conditioning)
        output = _OUTPUT_SCALE * unfold(self.conv_out(h), self.config.factor)
        prediction = low_resolution.image + output[..., :IMAGE_CHANNELS]
        return jnp.concatenate([prediction, copy_gates(output[..., IMAGE_CHANNELS:])], axis=-1)

    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """Return only which neighbors exist, since the network ignores them (see `Network`)."""
        return Neighbors({}, mask)
