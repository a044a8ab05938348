"""The denoising loss.

t is in [0, 1], stratified over the rows. The loss is the mean squared error of the prediction, ε or v. A network that
predicts x_0 has the loss of v: the error of v is that of x_0 divided by σ, so the weight is 1/σ², limited for σ near 0.
Alternatively it has the Charbonnier loss, a smooth absolute difference: a sharp edge at one of several likely positions
minimizes it, whereas squared differences favor the mean of all.

If a network also predicts a variance, the loss is the hybrid one of Improved DDPM, which adds the variational bound.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt8

from reimagen_generator.config.cascade import Prediction, StageConfig
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction, schedule
from reimagen_generator.diffusion.conditions import augment, encode_neighbors
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.diffusion.resize import downsample, to_float
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text
from reimagen_generator.networks.placement import Placements
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.training.blur import blur
from reimagen_generator.training.config import TrainingConfig, X0Loss
from reimagen_generator.training.placement import ReferenceTruth, jittered, placement_loss
from reimagen_generator.training.variance import variance_bound

_Parameters = TypeVar("_Parameters")

_X0_WEIGHT_LIMIT = 25.0
_CHARBONNIER_WIDTH = 0.01
"""Differences well below this count as squares, larger ones as absolute values; images are in [-1, 1]."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """Training images with their neighbors; `neighbor_text` has batch × neighbors rows.

    `empty_text`, for each image, replaces a dropped text; if it is None, the text is masked.
    """

    image: UInt8[Array, "batch height width 3"]
    text: Text
    neighbor_images: UInt8[Array, "batch neighbors height width 3"]
    neighbor_text: Text
    neighbor_mask: Bool[Array, "batch neighbors"]
    empty_text: Text | None = None
    truth: ReferenceTruth | None = None
    """Where the neighbors' objects are; None for shards that do not state it."""
    low_res: UInt8[Array, "batch h w 3"] | None = None
    """The low-resolution images of a super-resolution stage; None to downsample the images."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch's loss: one entry for each row; the draws of an image are adjacent rows."""

    time: Float[Array, " rows"]
    noise: Float[Array, "rows height width 3"]
    augmentation: Float[Array, " rows"]
    augmentation_noise: Float[Array, "rows height width 3"]
    keep_text: Bool[Array, " rows"]
    keep_neighbors: Bool[Array, "rows neighbors"]
    distracted: Bool[Array, "images neighbors"] | None = None
    """Neighbors that are replaced by those of the next image, the same for all draws of an image; None for none."""
    placements: Placements | None = None
    """The placements that the network sees, near the true ones and the same for all draws of an image."""
    blur: Float[Array, " rows"] | None = None
    """Standard deviation of the blur of the low-resolution image, in its pixels; None for no blur."""


def draw(key: Key[Array, ""], config: TrainingConfig, batch: Batch) -> Draws:
    """Return the random numbers of a training step."""
    images, height, width, _ = batch.image.shape
    rows = images * config.draws
    keys = jax.random.split(key, 7)
    uniform = jax.random.uniform
    stratified = jax.random.permutation(keys[0], (jnp.arange(rows) + uniform(keys[1], (rows,))) / rows)
    choice = uniform(keys[2], (rows, 1))  # one number selects at most one of the three kinds of dropping
    bounds = jnp.cumsum(jnp.array([config.drop_both, config.drop_text, config.drop_neighbors]))
    drop_neighbors = (choice < bounds[0]) | ((choice >= bounds[1]) & (choice < bounds[2]))
    each = uniform(keys[3], (rows, config.neighbors)) >= config.drop_each_neighbor
    return Draws(
        time=stratified**config.time_exponent,
        noise=jax.random.normal(keys[4], (rows, height, width, 3)),
        augmentation=uniform(keys[5], (rows,), maxval=config.maximum_augmentation),
        augmentation_noise=jax.random.normal(keys[6], (rows, height, width, 3)),
        keep_text=choice[:, 0] >= bounds[1],
        keep_neighbors=~drop_neighbors & each,
        distracted=_distracted(jax.random.fold_in(key, 7), config, batch.neighbor_mask)
        if config.distractors and config.neighbors
        else None,
        placements=None
        if batch.truth is None
        else jittered(
            jax.random.fold_in(key, 8),
            batch.truth.placements,
            config.placement_error,
            super_resolution=batch.low_res is not None,
        ),
        blur=uniform(jax.random.fold_in(key, 9), (rows,), maxval=config.maximum_blur) if config.maximum_blur else None,
    )


def _distracted(
    key: Key[Array, ""], config: TrainingConfig, mask: Bool[Array, "images neighbors"]
) -> Bool[Array, "images neighbors"]:
    """Return which neighbors to replace; one neighbor of each image, chosen at random, is replaced a tenth as often."""
    which, replaced = jax.random.uniform(key, (2, *mask.shape))
    right = jnp.argmax(jnp.where(mask, which, -1.0), axis=1)[:, None] == jnp.arange(mask.shape[1])
    share = jnp.where(right, 0.1 * config.distractors, config.distractors)
    return jnp.less(replaced, share)


def loss_by_row(
    network: Network,
    stage: StageConfig,
    factor: int | None,
    batch: Batch,
    draws: Draws,
    x0_loss: X0Loss = X0Loss.WEIGHTED_SQUARES,
) -> Float[Array, " rows"]:
    """Return the loss of each row.

    Args:
        network: The network of the stage.
        stage: The stage's configuration.
        factor: The size of this stage divided by that of the stage before; None for the first stage.
        batch: The training images.
        draws: The random numbers.
        x0_loss: The loss of a network that predicts x_0.
    """
    repeat = partial(jnp.repeat, repeats=draws.time.shape[0] // batch.image.shape[0], axis=0)
    x_0 = to_float(batch.image)
    text, empty_text = jax.tree.map(repeat, (batch.text, batch.empty_text))
    text = guiding.drop_text(text, draws.keep_text, empty_text)
    low_resolution = None
    if factor is not None:
        low_resolution = _low_resolution(stage, factor, batch, draws, x_0, repeat)
    neighbors = None
    if stage.network.retrieval and batch.neighbor_mask.shape[1]:
        images = to_float(batch.neighbor_images)
        encoded = encode_neighbors(
            network,
            of_side(images, x_0.shape[1]),
            batch.neighbor_text,
            batch.neighbor_mask,
            factor,
            stage.upsampling,
        )
        if stage.network.placed:
            if batch.truth is None or draws.placements is None:
                raise ValueError(
                    "data: must be composed shards with the placements of neighbors (KEY.neighborN.json), since the "
                    "network takes placed neighbors"
                )
            encoded = replace(encoded, placed=batch.truth.placed(images, draws.placements, x_0.shape[1]))
        if draws.distracted is not None:
            encoded = distract(encoded, draws.distracted)
        neighbors = jax.tree.map(repeat, encoded)
        neighbors = replace(neighbors, mask=neighbors.mask & draws.keep_neighbors)
    x_0 = repeat(x_0)
    time = schedule.nearest(stage.schedule, draws.time)
    log_snr = schedule.log_snr(stage.schedule, time, stage.log_snr_shift)
    alpha, sigma = schedule.alpha_sigma(log_snr)
    x_t = schedule.per_image(alpha) * x_0 + schedule.per_image(sigma) * draws.noise
    output = network(x_t, time, text, neighbors, low_resolution)
    if stage.network.placed:
        output = copied(stage.prediction, output, neighbors, x_t, log_snr)
    output, variance = output[..., : x_0.shape[-1]], output[..., x_0.shape[-1] :]
    difference = output - prediction.target(stage.prediction, x_0, draws.noise, log_snr)
    if stage.prediction is Prediction.X0 and x0_loss is X0Loss.CHARBONNIER:
        error = jnp.sqrt(difference**2 + _CHARBONNIER_WIDTH**2).mean(axis=(1, 2, 3))
    else:
        error = (difference**2).mean(axis=(1, 2, 3))
        if stage.prediction is Prediction.X0:
            error = error * jnp.minimum(1.0 / sigma**2, _X0_WEIGHT_LIMIT)
    if stage.network.learned_variance:
        epsilon = prediction.to_epsilon(stage.prediction, output, x_t, log_snr)
        error = error + variance_bound(stage, time, epsilon - draws.noise, variance)
    return error


def _low_resolution(
    stage: StageConfig,
    factor: int,
    batch: Batch,
    draws: Draws,
    x_0: Float[Array, "images height width 3"],
    repeat: Callable[[Array], Array],
) -> LowResolution:
    """Return what a super-resolution stage upsamples, blurred and noised for each row."""
    low_res = repeat(downsample(x_0, factor) if batch.low_res is None else to_float(batch.low_res))
    if draws.blur is not None:
        low_res = blur(low_res, draws.blur)
    level = schedule.nearest(stage.schedule, draws.augmentation)
    return augment(stage, low_res, factor, level, draws.augmentation_noise)


def placement_loss_by_row(
    network: PlacementNetwork, stage: StageConfig, batch: Batch, draws: Draws
) -> Float[Array, " rows"]:
    """Return the placement network's loss of each image.

    Every other image is pure noise, as at the start of sampling. The others are noised to the time of the draw.

    Args:
        network: The placement network.
        stage: The cascade's first stage, whose noised images the network sees.
        batch: Images of shards with true placements.
        draws: The random numbers.

    Raises:
        ValueError: The shards have no placements.
    """
    if batch.truth is None:
        raise ValueError(
            "data: must be composed shards with the placements of neighbors (KEY.neighborN.json), to train the "
            "placement network"
        )
    rows, side = batch.image.shape[:2]
    time = jnp.where(jnp.arange(rows) % 2 == 0, 1.0, draws.time)
    alpha, sigma = map(
        schedule.per_image, schedule.alpha_sigma(schedule.log_snr(stage.schedule, time, stage.log_snr_shift))
    )
    x_t = alpha * to_float(batch.image) + sigma * draws.noise
    references = of_side(to_float(batch.neighbor_images), network.config.side)
    noised = downsample(x_t, side // network.config.image_side)
    is_object = batch.neighbor_mask & (batch.truth.canvas == 0)
    distribution = network(references, batch.text, batch.neighbor_text, is_object, noised, time)
    return placement_loss(distribution, batch.truth, batch.neighbor_mask)


def of_side(
    images: Float[Array, "batch neighbors height width 3"], side: int
) -> Float[Array, "batch neighbors side side 3"]:
    """Return the neighbors downsampled to the image's side."""
    factor = images.shape[2] // side
    if factor == 1:
        return images
    return downsample(images.reshape(-1, *images.shape[2:]), factor).reshape(*images.shape[:2], side, side, 3)


def distract(encoded: Neighbors, distracted: Bool[Array, "images neighbors"]) -> Neighbors:
    """Return the neighbors, some of them replaced by the next image's, where both images have one.

    Batches are shuffled, so the next image is a random one. A shift of all rows by one is cheaper than a gather of rows
    by index, and so is its gradient.
    """
    distracted = distracted & encoded.mask & jnp.roll(encoded.mask, -1, axis=0)
    images, count = distracted.shape

    def mix(values: Array) -> Array:
        grouped = values.reshape(images, count, -1)
        return jnp.where(distracted[..., None], jnp.roll(grouped, -1, axis=0), grouped).reshape(values.shape)

    mixed: Neighbors = jax.tree.map(mix, encoded)
    return replace(mixed, mask=encoded.mask)


def loss_and_gradient(
    loss_of: Callable[[_Parameters, Batch, Draws], tuple[Float[Array, ""], Float[Array, " rows"]]],
    parameters: _Parameters,
    batch: Batch,
    draws: Draws,
    parts: int,
) -> tuple[Float[Array, " rows"], _Parameters]:
    """Return the loss of each row and the gradient of the mean loss, with one part of the batch in memory at a time.

    Args:
        loss_of: The function of the mean loss of some images, and the loss of each of their rows.
        parameters: The parameters for which to compute the gradient.
        batch: The training images.
        draws: The random numbers.
        parts: The number of equal parts of the images, which are computed in turn.
    """
    gradient_of = jax.grad(loss_of, has_aux=True)
    if parts == 1:
        gradient, losses = gradient_of(parameters, batch, draws)
        return losses, gradient
    images = batch.image.shape[0]

    def split(rows: Array) -> Array:
        # A part has every parts-th image: if devices divide the rows, each has an equal number of rows of every part.
        grouped = rows.reshape(images // parts, parts, rows.shape[0] // images, *rows.shape[1:]).swapaxes(0, 1)
        return grouped.reshape(parts, rows.shape[0] // parts, *rows.shape[1:])

    def add(total: _Parameters, part: tuple[Batch, Draws]) -> tuple[_Parameters, Float[Array, " rows"]]:
        gradient, losses = gradient_of(parameters, *part)
        return jax.tree.map(jnp.add, total, gradient), losses

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    total, losses = jax.lax.scan(add, zeros, jax.tree.map(split, (batch, draws)))
    in_order = losses.reshape(parts, images // parts, -1).swapaxes(0, 1).reshape(-1)
    return in_order, jax.tree.map(lambda summed: summed / parts, total)
