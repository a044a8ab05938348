"""The placement network. It maps the prompt and a reference to a matte, a box, and a distribution of placements.

    prompt, caption ─▶ mention ─▶ matting U-Net ─┬─▶ matte
    reference ────────────────────┘              └─ coarse map ─┐
    prompt, caption, places of all mentions ─▶ what is stated ──┼─▶ box, and for each copy: presence, and a
    x_t, downsampled, and t ────────────────────────────────────┘   distribution of log size, center, angle, mirroring

The center is normally distributed given the size, since a larger object reaches further up from the ground that it
stands on. At t = 1, x_t carries no information, and the placement depends on the texts and the reference alone. At
smaller t, x_t shows where the object is. The network is trained with the true placements of composed images.

Which words are about which of several objects is decided by where the prompt mentions them (`mention.py`). A network
that sees only each token's similarity to the caption puts two objects in the right order no more often than by chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.networks.layers import (
    BlockStyle,
    GroupNorm,
    ResidualBlock,
    TimeEmbedding,
    conv3x3,
    downsample,
    fold,
    unfold,
    upsample,
)
from reimagen_generator.networks.mention import (
    POSITION_CHANNELS,
    MentionEncoder,
    mention_positions,
    token_similarity,
    without_special_tokens,
)
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.placement import COPIES, Placements

_Map = Float[Array, "rows h w channels"]
_OUTPUTS = 13
"""Number of outputs for each copy: the fields of `PlacementDistribution` from `presence` on."""
_MEAN_LOG_SIZE = math.log(0.5)
_LOG_DEVIATION = -2.5
"""Initial value of the log deviations: about a twelfth of the side."""
_CANDIDATES = 16
"""Number of placements that are drawn for an image, of which one is used."""
_OVERLAP = 0.3
"""Largest overlap that is accepted at once, as a share of the smaller object's square."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PlacementDistribution:
    """Where the object of each reference may go. The fields of placements have shape batch × neighbors × copies."""

    matte: Float[Array, "batch neighbors side side"]
    """Logits of the opacity of the object in each pixel of its reference."""
    box: Float[Array, "batch neighbors 3"]
    """The object's box in its reference, as in `Placements`."""
    presence: Float[Array, "batch neighbors copies"]
    """Logits of the presence of each copy."""
    log_size: Float[Array, "batch neighbors copies"]
    """The mean log size."""
    center: Float[Array, "batch neighbors copies 2"]
    """The mean center at the mean size."""
    slope: Float[Array, "batch neighbors copies 2"]
    """The change of the mean center per unit of log size."""
    log_deviation: Float[Array, "batch neighbors copies 4"]
    """Log standard deviations of log size, x, y and angle."""
    turn: Float[Array, "batch neighbors copies 2"]
    """Cosine and sine of the mean angle, not normalized."""
    mirrored: Float[Array, "batch neighbors copies"]
    """Logits of the probability that the object is mirrored."""


class PlacementNetwork(nnx.Module):
    """The network that predicts mattes, boxes and placements."""

    def __init__(self, config: PlacementConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.text = MentionEncoder(config, 1, rngs)
        self.stated = MentionEncoder(config, 1 + POSITION_CHANNELS, rngs)
        self.matting = _MattingUNet(config, self.text.width, rngs)
        grid = config.side // 16
        self.reference = nnx.Linear(config.widths[-1] * grid * grid, config.width // 4, rngs=rngs)
        self.image = _ImageEncoder(config, rngs)
        inner = self.stated.width + 2 * (config.width // 4)
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
        is_object: Bool[Array, "batch neighbors"],
        image: Float[Array, "batch h w 3"],
        time: Float[Array, " batch"],
    ) -> PlacementDistribution:
        """Return the distribution of each image's placements.

        Args:
            references: Images in [-1, 1], of the configuration's `side`.
            text: The prompts.
            neighbor_text: The captions, batch × neighbors rows.
            is_object: Which neighbors are the first with their caption, so that each object counts once.
            image: x_t, downsampled to the configuration's `image_side`; any noise where `time` is 1.
            time: Times in [0, 1].
        """
        b, n = references.shape[:2]
        prompts = jax.tree.map(lambda a: jnp.repeat(a, n, axis=0), text)
        similarity = token_similarity(prompts, neighbor_text)
        words = (prompts, neighbor_text)
        if self.config.special_tokens:
            words = (without_special_tokens(prompts), without_special_tokens(neighbor_text))
        positions = mention_positions(token_similarity(*words).reshape(b, n, -1), is_object)
        positions = positions.reshape(b * n, -1, POSITION_CHANNELS)
        described = self.text(prompts, similarity[..., None])
        stated = self.stated(prompts, jnp.concatenate([similarity[..., None], positions], axis=-1))
        matte, coarse = self.matting(references.reshape(b * n, *references.shape[2:]), described)
        seen = nnx.gelu(self.reference(coarse.reshape(b * n, -1)))
        noised = jnp.repeat(self.image(image, time), n, axis=0)
        h = nnx.gelu(self.hidden(self.norm(jnp.concatenate([stated, seen, noised], axis=-1))))
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


class _MattingUNet(nnx.Module):
    """A small U-Net from a reference and the encoded mention of its object to the logits of the object's opacity."""

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
        self, image: Float[Array, "rows side side 3"], mention: Float[Array, "rows conditioning"]
    ) -> tuple[Float[Array, "rows side side"], _Map]:
        """Return the matte's logits and the coarsest map."""
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
    """A vector encoding of a noised image."""

    def __init__(self, config: PlacementConfig, rngs: nnx.Rngs) -> None:
        widths, side = (16, 32, 48), config.image_side // 8
        self.time = TimeEmbedding(widths[-1], rngs)
        self.convolutions = nnx.List(
            [conv3x3(before, width, rngs, stride=2) for before, width in zip((3, *widths), widths, strict=False)]
        )
        self.out = nnx.Linear(widths[-1] * side * side, config.width // 4, rngs=rngs)

    def __call__(
        self, image: Float[Array, "batch h w 3"], time: Float[Array, " batch"]
    ) -> Float[Array, "batch channels"]:
        """Return the vector; for pure noise it depends on little but the time."""
        h = image
        for convolution in self.convolutions:
            h = nnx.silu(convolution(h))
        h = h + self.time(time)[:, None, None]
        return nnx.gelu(self.out(h.reshape(len(h), -1)))


def sample_placements(
    distribution: PlacementDistribution,
    leaders: Int[Array, "batch neighbors"],
    is_object: Bool[Array, "batch neighbors"],
    keys: Key[Array, " batch"],
) -> Placements:
    """Return randomly drawn placements; each row uses its own key.

    References with the same caption share the placement of the first of them, each with its own box. The first
    reference is placed even if the prompt does not name it, since the caller wants it to be used.

    Each object has a distribution of its own. So that objects do not hide each other, several placements are drawn, and
    the first one with little overlap is returned, or else the one with the least.

    Args:
        distribution: The distribution of placements.
        leaders: For each neighbor, the rank of the first one with the same caption.
        is_object: Which neighbors are the first with their caption.
        keys: One key for each image.
    """
    of_all = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    candidates = jnp.stack([keys, *(of_all(keys, number) for number in range(2, _CANDIDATES + 1))])
    drawn = jax.vmap(lambda candidate: _draw(distribution, leaders, candidate))(candidates)
    overlaps = jax.vmap(jax.vmap(_overlap))(drawn, jnp.broadcast_to(is_object, (_CANDIDATES, *is_object.shape)))
    acceptable = jnp.argmax(overlaps <= _OVERLAP, axis=0)
    chosen = jnp.where((overlaps <= _OVERLAP).any(axis=0), acceptable, jnp.argmin(overlaps, axis=0))
    placements: Placements = jax.tree.map(lambda field: field[chosen, jnp.arange(len(keys))], drawn)
    return placements


def _draw(
    distribution: PlacementDistribution, leaders: Int[Array, "batch neighbors"], keys: Key[Array, " batch"]
) -> Placements:
    b, n, copies = distribution.presence.shape
    normal, uniform = jax.vmap(
        lambda key: (
            jax.random.truncated_normal(jax.random.fold_in(key, 0), -2.0, 2.0, (n, copies, 4)),
            jax.random.uniform(jax.random.fold_in(key, 1), (n, copies)),
        )
    )(keys)
    deviation = normal * jnp.exp(distribution.log_deviation)
    size = jnp.exp(distribution.log_size + deviation[..., 0])
    center = distribution.center + distribution.slope * deviation[..., :1] + deviation[..., 1:3]
    # A tenth of the object may extend beyond the image.
    margin = jnp.minimum(0.4 * size, 0.5)[..., None]
    center = jnp.clip(center, margin, 1.0 - margin)
    angle = jnp.arctan2(distribution.turn[..., 1], distribution.turn[..., 0]) + deviation[..., 3]
    mirrored = uniform < jax.nn.sigmoid(distribution.mirrored)
    first = (jnp.arange(n)[:, None] == 0) & (jnp.arange(copies) == 0)
    present = (distribution.presence > 0) | first
    center, size, mirrored, angle, present = (
        jnp.take_along_axis(field, leaders.reshape(b, n, *[1] * (field.ndim - 2)), axis=1)
        for field in (center, size, mirrored, angle, present)
    )
    return Placements(distribution.box, center, size, mirrored, angle, present)


def _overlap(one: Placements, is_object: Bool[Array, " neighbors"]) -> Float[Array, ""]:
    """Return the largest overlap of two objects of an image, as a share of the smaller one's square."""
    center, size = one.center.reshape(-1, 2), one.size.reshape(-1)
    shown = (one.present & is_object[:, None]).reshape(-1)
    low, high = center - size[:, None] / 2, center + size[:, None] / 2
    shared = jnp.minimum(high[:, None], high) - jnp.maximum(low[:, None], low)
    area = jnp.maximum(shared, 0.0).prod(axis=-1) / jnp.minimum(size[:, None], size) ** 2
    pairs = shown[:, None] & shown & ~jnp.eye(len(size), dtype=bool)
    return jnp.where(pairs, area, 0.0).max()


def leader_of(captions: Sequence[str]) -> list[int]:
    """Return for each neighbor the rank of the first neighbor with the same caption."""
    return [captions.index(caption) for caption in captions]
