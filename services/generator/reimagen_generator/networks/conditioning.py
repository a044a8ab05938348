"""The vector that conditions every residual block: time, pooled text and, for super-resolution, augmentation level."""

from flax import nnx
from jaxtyping import Array, Float

from reimagen_generator.config.networks import LevelsConfig
from reimagen_generator.networks.layers import AttentionPool, TimeEmbedding
from reimagen_generator.networks.network import LowResolution, Text


class Conditioning(nnx.Module):
    """The sum of the embeddings of a row's conditions."""

    def __init__(self, channels: int, config: LevelsConfig, rngs: nnx.Rngs) -> None:
        self.time = TimeEmbedding(channels, rngs)
        self.pool = AttentionPool(config.text_channels, channels, channels // config.head_channels, rngs)
        self.augmentation = TimeEmbedding(channels, rngs) if config.low_resolution else None

    def __call__(
        self, time: Float[Array, " batch"], text: Text, low_resolution: LowResolution | None
    ) -> Float[Array, "batch conditioning"]:
        """Return the conditioning vector of each row."""
        vector = self.time(time) + self.pool(text.tokens, text.mask)
        if self.augmentation is not None and low_resolution is not None:
            vector = vector + self.augmentation(low_resolution.augmentation)
        return vector
