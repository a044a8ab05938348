"""What a stage's images are drawn from, the same at every step: text, neighbors and the low-resolution image."""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import StageConfig, Upsampling
from reimagen_generator.diffusion import schedule
from reimagen_generator.diffusion.resize import downsample, upsample
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text

_Images = Float[Array, "batch height width 3"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditions:
    """What an image is drawn from, the same at every step."""

    text: Text
    neighbors: Neighbors | None
    """With the mask of each row's neighbors."""
    low_resolution: LowResolution | None
    empty_text: Text | None = None
    """What stands for no text where guidance drops it, for each row: the negative prompt, the empty prompt's embedding,
    or masked tokens. None masks the text of every row."""
    low_res: Float[Array, "batch h w 3"] | None = None
    """The image that a stage with low-resolution consistency keeps to."""


def augment(
    stage: StageConfig,
    low_res: Float[Array, "batch h w 3"],
    factor: int,
    level: Float[Array, " batch"],
    noise: _Images,
) -> LowResolution:
    """Return the low-resolution image upsampled, with noise conditioning augmentation (Imagen, section 2.4).

    Args:
        stage: The stage that upsamples; its configuration says whether noise is added before or after upsampling.
        low_res: The low-resolution image in [-1, 1].
        factor: The stage's size over that of the low-resolution image.
        level: The *time* to which the image is noised.
        noise: Normal noise of the stage's size.
    """
    alpha, sigma = map(
        schedule.per_image, schedule.alpha_sigma(schedule.log_snr(stage.schedule, level, stage.log_snr_shift))
    )
    if stage.augment_before_upsampling:
        # The sum over a square of normal numbers, over its side, is normal again. The image keeps its contrast.
        noised = low_res + sigma / alpha * factor * downsample(noise, factor)
        return LowResolution(upsample(noised, factor, stage.upsampling), level)
    return LowResolution(alpha * upsample(low_res, factor, stage.upsampling) + sigma * noise, level)


def encode_neighbors(
    network: Network,
    images: Float[Array, "batch neighbors height width 3"],
    text: Text,
    mask: Array,
    factor: int | None,
    upsampling: Upsampling = Upsampling.BICUBIC,
) -> Neighbors:
    """Return the neighbors' keys and values; a super-resolution network also sees each at low resolution."""
    low_res = None
    if factor is not None:
        flat = images.reshape(-1, *images.shape[2:])
        low_res = upsample(downsample(flat, factor), factor, upsampling).reshape(images.shape)
    return network.encode_neighbors(images, text, mask, low_res)
