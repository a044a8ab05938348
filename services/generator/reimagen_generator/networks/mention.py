"""What a prompt says about the object that a caption names.

Each token of the prompt carries its cosine with the most similar token of the caption, and may carry its position
relative to the mentions of this object and of the nearest others: in "a fox on the left and an owl on the right", the
words that belong to the owl are those around its mention and after the fox's. Convolutions over the tokens connect such
words with the mention.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.networks.layers import finite_maximum, nonzero
from reimagen_generator.networks.network import Text

_PERIODS = (4.0, 8.0, 16.0, 32.0, 64.0)
"""Periods of the sinusoidal features of a relative position, in tokens."""
POSITION_CHANNELS = 3 * 2 * len(_PERIODS) + 2
"""Channels of `mention_positions`."""
_SHARPNESS = 30.0
_MENTIONED = 0.6
"""Least similarity of a mention to the caption; between those of named and of unrelated captions in training data."""
_SAME = 0.5
"""Mentions that are closer than this, in tokens, are of the same object."""


class MentionEncoder(nnx.Module):
    """An encoding of the prompt for one caption, pooled over the prompt's tokens."""

    def __init__(self, config: PlacementConfig, features: int, rngs: nnx.Rngs) -> None:
        """Create an encoder.

        Args:
            config: The configuration of the placement network.
            features: Number of features of each token besides its embedding.
            rngs: Random numbers for the initial parameters.
        """
        channels, width = config.text_channels, config.text_width
        self.width = config.queries * width // 4
        self.project = nnx.Linear(channels + features, width, rngs=rngs)
        self.convolutions = nnx.List([nnx.Conv(width, width, kernel_size=(5,), rngs=rngs) for _ in range(3)])
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(3)])
        self.query = nnx.Linear(width, config.queries, rngs=rngs)
        self.value = nnx.Linear(width, width // 4, rngs=rngs)

    def __call__(self, text: Text, features: Float[Array, "rows length features"]) -> Float[Array, "rows channels"]:
        """Return the encoding of each prompt."""
        tokens = jnp.concatenate([_normalized(text.tokens), features], axis=-1)
        is_token = text.mask[..., None]
        h = jnp.where(is_token, self.project(tokens), 0.0)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = h + jnp.where(is_token, nnx.gelu(convolution(jnp.where(is_token, norm(h), 0.0))), 0.0)
        scores = jnp.where(is_token, self.query(h), -jnp.inf)
        weights = jnp.exp(scores - finite_maximum(scores, axis=1))
        weights = weights / nonzero(weights.sum(axis=1, keepdims=True))
        pooled = jnp.einsum("blq,blc->bqc", weights, self.value(h))
        return pooled.reshape(len(pooled), -1)


def token_similarity(text: Text, caption: Text) -> Float[Array, "rows length"]:
    """Return each token's cosine with the most similar token of the caption; 0 for a row without caption."""
    channels = text.tokens.shape[-1]
    cosines = jnp.einsum("blc,bmc->blm", _normalized(text.tokens), _normalized(caption.tokens)) / channels
    best = jnp.where(caption.mask[:, None], cosines, -1.0).max(axis=-1)
    return jnp.where(caption.mask.any(axis=1)[:, None] & text.mask, best, 0.0)


def without_special_tokens(text: Text) -> Text:
    """Return a text without its first and its last token."""
    inner = text.mask[:, 1:-1] & text.mask[:, 2:]
    return Text(text.tokens, jnp.pad(inner, ((0, 0), (1, 1))))


def mention_positions(
    similarity: Float[Array, "batch neighbors length"], is_object: Bool[Array, "batch neighbors"]
) -> Float[Array, "batch neighbors length channels"]:
    """Return each token's position relative to this object's mention, and to the nearest ones before and after it.

    Each relative position is given as sines and cosines, as in the Transformer; two further channels say whether there
    is a mention before, and one after.

    Args:
        similarity: The prompt's tokens' similarity to each caption; 0 for special tokens.
        is_object: Which neighbors are the first with their caption, so that each object counts once.
    """
    tokens = jnp.arange(similarity.shape[-1], dtype=similarity.dtype)
    weights = jnp.exp(_SHARPNESS * (similarity - similarity.max(axis=-1, keepdims=True)))
    own = (weights * tokens).sum(axis=-1) / weights.sum(axis=-1)
    is_mention = is_object & (similarity.max(axis=-1) >= _MENTIONED)
    distance = own[:, None, :] - own[:, :, None]  # from this neighbor's mention to another's
    is_before = is_mention[:, None] & (distance < -_SAME)
    is_after = is_mention[:, None] & (distance > _SAME)
    before = own + jnp.where(is_before, distance, -jnp.inf).max(axis=-1, initial=-len(tokens))
    after = own + jnp.where(is_after, distance, jnp.inf).min(axis=-1, initial=len(tokens))
    found_before, found_after = is_before.any(axis=-1), is_after.any(axis=-1)

    def relative(position: Float[Array, "batch neighbors"], found: Bool[Array, "batch neighbors"]) -> Array:
        angles = 2.0 * jnp.pi * (tokens - position[..., None])[..., None] / jnp.array(_PERIODS)
        features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return jnp.where(found[..., None, None], features, 0.0)

    def on_tokens(flag: Bool[Array, "batch neighbors"]) -> Array:
        return jnp.broadcast_to(flag[..., None, None], (*similarity.shape, 1)).astype(similarity.dtype)

    return jnp.concatenate(
        [
            relative(own, jnp.ones_like(found_before)),
            relative(before, found_before),
            relative(after, found_after),
            on_tokens(found_before),
            on_tokens(found_after),
        ],
        axis=-1,
    )


def _normalized(tokens: Float[Array, "rows length channels"]) -> Float[Array, "rows length channels"]:
    centered = tokens - tokens.mean(axis=-1, keepdims=True)
    normalized: Array = centered * jax.lax.rsqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-6)
    return normalized
