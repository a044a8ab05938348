"""The placement network: from the prompt and a reference to a matte, a box, and a distribution of placements.

    reference ─▶ matting U-Net ─┬─▶ matte
                                └─ coarse map ─┐
    caption ──▶ which tokens of the prompt ──┐ │
    prompt ───────────────────────────────── ┴─┼─▶ box, and for each copy: presence, and a distribution of
    x_t, downsampled, and t ───────────────────┘   log size, center, angle, mirroring

The center is normal given the size, since what is larger reaches further up from the ground that it stands on. At t = 1
x_t says nothing, and the placement comes from the texts and the reference alone; at smaller t it shows where the thing
is. It is trained with the true placements of composed images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.networks.layers import (
    BlockStyle,
    GroupNorm,
    ResidualBlock,
    TimeEmbedding,
    conv3x3,
    downsample,
    finite_maximum,
    fold,
    nonzero,
    unfold,
    upsample,
)
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.placement import COPIES, Placements

_Map = Float[Array, "rows h w channels"]
_OUTPUTS = 13
"""Numbers for each copy: those of `PlacementDistribution` from `presence` on."""
_MEAN_LOG_SIZE = math.log(0.5)
_LOG_DEVIATION = -2.5
"""Where log deviations start: about a twelfth of the side."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PlacementDistribution:
    """Where the thing of each reference may go. The fields of placements have batch × neighbors × copies."""

    matte: Float[Array, "batch neighbors side side"]
    """Logits of the opacity of the thing in each pixel of its reference."""
    box: Float[Array, "batch neighbors 3"]
    """The thing's box in its reference, as in `Placements`."""
    presence: Float[Array, "batch neighbors copies"]
    """Logits."""
    log_size: Float[Array, "batch neighbors copies"]
    """The mean."""
    center: Float[Array, "batch neighbors copies 2"]
    """The mean, at the mean size."""
    slope: Float[Array, "batch neighbors copies 2"]
    """How far the center's mean moves with the log size."""
    log_deviation: Float[Array, "batch neighbors copies 4"]
    """Of log size, x, y and angle."""
    turn: Float[Array, "batch neighbors copies 2"]
    """Cosine and sine of the mean angle, not normalized."""
    mirrored: Float[Array, "batch neighbors copies"]
    """Logits."""


class PlacementNetwork(nnx.Module):
    """Predicts mattes, boxes and placements."""

    def __init__(self, config: PlacementConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.text = _MentionEncoder(config, rngs)
        self.matting = _MattingUNet(config, self.text.width, rngs)
        grid = config.side // 16
        self.reference = nnx.Linear(config.widths[-1] * grid * grid, config.width // 4, rngs=rngs)
        self.image = _ImageEncoder(config, rngs)
        inner = self.text.width + 2 * (config.width // 4)
        self.norm = nnx.LayerNorm(inner, rngs=rngs)
        self.hidden = nnx.Linear(inner, config.width, rngs=rngs)
        self.hidden_2 = nnx.Linear(config.width, config.width, rngs=rngs)
        small = nnx.initializers.normal(0.01)
        self.out = nnx.Linear(config.width, COPIES * _OUTPUTS, kernel_init=small, rngs=rngs)
        self.box = nnx.Linear(config.width // 4, 3, kernel_init=small, rngs=rngs)

    def __call__(
        self,
        references: Float[Array, "batch neighbors side side 3"],
        text: Text,
        neighbor_text: Text,
        picture: Float[Array, "batch h w 3"],
        time: Float[Array, " batch"],
    ) -> PlacementDistribution:
        """Return the distribution of each image's placements.

        Args:
            references: In [-1, 1], of the configuration's side.
            text: The prompts.
            neighbor_text: Of batch × neighbors rows, the captions.
            image: x_t, downsampled to the configuration's `image_side`; anything where `time` is 1.
            time: In [0, 1].
        """
        b, n = references.shape[:2]
        mention = self.text(text, neighbor_text, n)
        matte, coarse = self.matting(references.reshape(b * n, *references.shape[2:]), mention)
        seen = nnx.gelu(self.reference(coarse.reshape(b * n, -1)))
        drawn = jnp.repeat(self.image(picture, time), n, axis=0)
        h = nnx.gelu(self.hidden(self.norm(jnp.concatenate([mention, seen, drawn], axis=-1))))
        h = h + nnx.gelu(self.hidden_2(h))
        out = self.out(h).reshape(b, n, COPIES, _OUTPUTS)
        box = self.box(seen).reshape(b, n, 3) + jnp.array([0.5, 0.5, 0.75])
        return PlacementDistribution(
            matte=matte.reshape(b, n, *matte.shape[1:]),
            box=box,
            presence=out[..., 0],
            log_size=out[..., 1] + _MEAN_LOG_SIZE,
            center=out[..., 2:4] + 0.5,
            slope=out[..., 4:6],
            log_deviation=jnp.clip(out[..., 6:10] + _LOG_DEVIATION, -5.0, 1.0),
            turn=out[..., 10:12] + jnp.array([1.0, 0.0]),
            mirrored=out[..., 12],
        )


class _MentionEncoder(nnx.Module):
    """What a prompt says of the thing that a caption names.

    Each token of the prompt carries its cosine with the most similar token of the caption; convolutions over the tokens
    bind "on the left" to the mention beside it.
    """

    def __init__(self, config: PlacementConfig, rngs: nnx.Rngs) -> None:
        channels, width = config.text_channels, config.text_width
        self.width = config.queries * width // 4
        self.project = nnx.Linear(channels + 1, width, rngs=rngs)
        self.convolutions = nnx.List([nnx.Conv(width, width, kernel_size=(5,), rngs=rngs) for _ in range(3)])
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(3)])
        self.query = nnx.Linear(width, config.queries, rngs=rngs)
        self.value = nnx.Linear(width, width // 4, rngs=rngs)

    def __call__(self, text: Text, captions: Text, neighbors: int) -> Float[Array, "rows channels"]:
        mine = jax.tree.map(lambda a: jnp.repeat(a, neighbors, axis=0), text)
        tokens = jnp.concatenate([_normalized(mine.tokens), _similarity(mine, captions)[..., None]], axis=-1)
        there = mine.mask[..., None]
        h = jnp.where(there, self.project(tokens), 0.0)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = h + jnp.where(there, nnx.gelu(convolution(jnp.where(there, norm(h), 0.0))), 0.0)
        scores = jnp.where(there, self.query(h), -jnp.inf)
        weights = jnp.exp(scores - finite_maximum(scores, axis=1))
        weights = weights / nonzero(weights.sum(axis=1, keepdims=True))
        pooled = jnp.einsum("blq,blc->bqc", weights, self.value(h))
        return pooled.reshape(len(pooled), -1)


def _normalized(tokens: Float[Array, "rows length channels"]) -> Float[Array, "rows length channels"]:
    centered = tokens - tokens.mean(axis=-1, keepdims=True)
    normalized: Array = centered * jax.lax.rsqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-6)
    return normalized


def _similarity(text: Text, caption: Text) -> Float[Array, "rows length"]:
    """Return each token's cosine with the most similar token of the caption; 0 where there is no caption."""
    channels = text.tokens.shape[-1]
    cosines = jnp.einsum("blc,bmc->blm", _normalized(text.tokens), _normalized(caption.tokens)) / channels
    best = jnp.where(caption.mask[:, None], cosines, -1.0).max(axis=-1)
    return jnp.where(caption.mask.any(axis=1)[:, None] & text.mask, best, 0.0)


class _MattingUNet(nnx.Module):
    """A small U-Net from a reference, and what is said of its thing, to the logits of the thing's opacity."""

    def __init__(self, config: PlacementConfig, conditioning: int, rngs: nnx.Rngs) -> None:
        widths, style = config.widths, BlockStyle()
        self.conv_in = conv3x3(12, widths[0], rngs)
        self.down = nnx.List(
            [
                ResidualBlock(before, width, conditioning, rngs, style=style)
                for before, width in zip((widths[0], *widths), widths, strict=False)
            ]
        )
        self.up = nnx.List(
            [ResidualBlock(below + width, width, conditioning, rngs, style=style) for width, below in pairwise(widths)]
        )
        self.norm_out = GroupNorm(widths[0], num_groups=8, rngs=rngs)
        self.conv_out = conv3x3(widths[0], 4, rngs, zero=True)

    def __call__(
        self, image: Float[Array, "rows side side 3"], mention: Float[Array, "rows channels"]
    ) -> tuple[Float[Array, "rows side side"], _Map]:
        """Return the matte's logits, and the coarsest map."""
        h = self.conv_in(fold(image, 2))
        skips: list[_Map] = []
        for level, block in enumerate(self.down):
            h = block(downsample(h) if level else h, mention)
            skips.append(h)
        coarse = skips.pop()
        h = coarse
        for block in reversed(self.up):
            h = block(jnp.concatenate([upsample(h), skips.pop()], axis=-1), mention)
        logits = unfold(self.conv_out(nnx.silu(self.norm_out(h))), 2)
        return logits[..., 0], coarse


class _ImageEncoder(nnx.Module):
    """A vector of what a noised image shows."""

    def __init__(self, config: PlacementConfig, rngs: nnx.Rngs) -> None:
        widths, side = (16, 32, 48), config.image_side // 8
        self.time = TimeEmbedding(widths[-1], rngs)
        self.convolutions = nnx.List(
            [conv3x3(before, width, rngs, stride=2) for before, width in zip((3, *widths), widths, strict=False)]
        )
        self.out = nnx.Linear(widths[-1] * side * side, config.width // 4, rngs=rngs)

    def __call__(
        self, picture: Float[Array, "batch h w 3"], time: Float[Array, " batch"]
    ) -> Float[Array, "batch channels"]:
        """Return the vector; noise alone gives little but the time."""
        h = picture
        for convolution in self.convolutions:
            h = nnx.silu(convolution(h))
        h = h + self.time(time)[:, None, None]
        return nnx.gelu(self.out(h.reshape(len(h), -1)))


def sample_placements(
    distribution: PlacementDistribution, leaders: Int[Array, "batch neighbors"], keys: Key[Array, " batch"]
) -> Placements:
    """Return placements drawn at random, a row's by its own key.

    References of one thing share the placement of the first of them, by the boxes that each has of it. The first
    reference is placed even where the prompt does not name it: the caller wants it used.

    Args:
        distribution: Of the placements.
        leaders: For each neighbor, the first one of the same caption.
        keys: One for each image.
    """
    b, n, copies = distribution.presence.shape
    normal, uniform = jax.vmap(
        lambda key: (
            jax.random.truncated_normal(jax.random.fold_in(key, 0), -2.0, 2.0, (n, copies, 4)),
            jax.random.uniform(jax.random.fold_in(key, 1), (n, copies)),
        )
    )(keys)
    moved = normal * jnp.exp(distribution.log_deviation)
    size = jnp.exp(distribution.log_size + moved[..., 0])
    center = distribution.center + distribution.slope * moved[..., :1] + moved[..., 1:3]
    # A tenth of the thing may reach out of the image.
    margin = jnp.minimum(0.4 * size, 0.5)[..., None]
    center = jnp.clip(center, margin, 1.0 - margin)
    angle = jnp.arctan2(distribution.turn[..., 1], distribution.turn[..., 0]) + moved[..., 3]
    mirrored = uniform < jax.nn.sigmoid(distribution.mirrored)
    first = (jnp.arange(n)[:, None] == 0) & (jnp.arange(copies) == 0)
    present = (distribution.presence > 0) | first
    center, size, mirrored, angle, present = (
        jnp.take_along_axis(field, leaders.reshape(b, n, *[1] * (field.ndim - 2)), axis=1)
        for field in (center, size, mirrored, angle, present)
    )
    return Placements(distribution.box, center, size, mirrored, angle, present)


def leader_of(captions: Sequence[str]) -> list[int]:
    """Return for each neighbor the rank of the first one of the same caption."""
    return [captions.index(caption) for caption in captions]
