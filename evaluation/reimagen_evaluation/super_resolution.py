"""Measure how well a super-resolution stage upsamples true images that were shrunk, compared with bicubic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from reimagen_evaluation.sharpness import edge_width, grain
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.diffusion.resize import downsample, to_bytes, to_float, upsample
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.training.data import ShardSource, collate
from reimagen_generator.weights import checkpoint

_Images = UInt8[np.ndarray, "count size size 3"]
_PIXELS = 8 * 256**2
"""Greatest number of pixels in a batch."""


@dataclass(frozen=True)
class Enlarged:
    """Measures of one way of upsampling; the first entry is the true images themselves."""

    name: str
    psnr: float
    """Mean PSNR in decibels; infinite for the true images."""
    gain: float
    """Mean difference to the PSNR of bicubic upsampling, in decibels."""
    worst_gain: float
    """Least difference to the PSNR of bicubic upsampling over all images, in decibels."""
    grain: float
    """Mean of `sharpness.grain`."""
    edge_width: float
    """Mean of `sharpness.edge_width`, in pixels."""


def super_resolution(weights: Sequence[Path], stage: int, data: Path, count: int) -> Iterator[Enlarged]:
    """Yield the measures of true images, bicubic upsampling, and a stage of each cascade.

    Args:
        weights: folders of cascades, whose stages upsample between the same two sizes.
        stage: index of the stage in each cascade, from 1.
        data: folder of training shards with images of the stage's size.
        count: number of images, the first of the shards.

    Raises:
        ValueError: weights or data cannot be read, there are too few images, or the stages differ in their sizes.
    """
    cascades = [checkpoint.load_config(folder) for folder in weights]
    size, factor = _sizes(cascades, stage)
    source = ShardSource(data, size)
    if len(source) < count:
        raise ValueError(f"count: {data} has only {len(source):,} images, got {count:,}")
    true: _Images = np.stack([source[index].image for index in range(count)])
    bicubic = np.concatenate([_bytes(upsample(_smaller(part, factor), factor)) for part in _batches(true)])
    yield _measure("true", true, true, bicubic)
    yield _measure("bicubic", bicubic, true, bicubic)
    for folder, cascade in zip(weights, cascades, strict=True):
        config = cascade.stages[stage]
        drawn = Stage(config, checkpoint.load_network(folder / checkpoint.stage_file(size), config.network), factor)
        yield _measure(str(folder), _draw(drawn, load_text_encoder(cascade, folder), source, true), true, bicubic)


def _sizes(cascades: Sequence[CascadeConfig], stage: int) -> tuple[int, int]:
    """Return the size that the stages draw and the factor by which they upsample."""
    found: set[tuple[int, int]] = set()
    for cascade in cascades:
        factor = size_factor(cascade, stage) if stage < len(cascade.stages) else None
        if factor is None:
            raise ValueError(f"stage: {cascade.name} has super-resolution stages 1 to {len(cascade.stages) - 1}")
        found.add((cascade.stages[stage].size, factor))
    if len(found) > 1:
        sizes = " and ".join(f"{size // factor} to {size}" for size, factor in sorted(found))
        raise ValueError(f"weights: stages must upsample between the same sizes, got {sizes}")
    return found.pop()


def _draw(stage: Stage, encoder: TextEncoder, source: ShardSource, true: _Images) -> _Images:
    """Return the stage's images for the shrunk true images, without neighbors, each with a different seed."""
    assert stage.factor is not None
    drawn: list[_Images] = []
    for part in _batches(true):
        first = sum(map(len, drawn))
        batch = collate([source[first + row] for row in range(len(part))], encoder, 0)
        keys = jax.vmap(jax.random.key)(jnp.arange(first, first + len(part)))
        conditions = stage.conditions(batch.text, None, _smaller(part, stage.factor), keys)
        drawn.append(_bytes(stage.sample_at_once(conditions, stage.config.guidance, keys)))
    return np.concatenate(drawn)


def _smaller(images: _Images, factor: int) -> Float[jax.Array, "count h w 3"]:
    """Return the images shrunk and rounded to bytes, as a stage gets them from the stage before."""
    return to_float(to_bytes(downsample(to_float(jnp.asarray(images)), factor)))


def _bytes(images: Float[jax.Array, "count size size 3"]) -> _Images:
    return np.asarray(to_bytes(images))


def _batches(images: _Images) -> Iterator[_Images]:
    count = max(1, _PIXELS // images.shape[1] ** 2)
    return (images[first : first + count] for first in range(0, len(images), count))


def _measure(name: str, images: _Images, true: _Images, bicubic: _Images) -> Enlarged:
    gains = _psnr(images, true) - _psnr(bicubic, true)
    return Enlarged(
        name=name,
        psnr=float(_psnr(images, true).mean()),
        gain=float(gains.mean()),
        worst_gain=float(gains.min()),
        grain=float(np.mean([grain(image) for image in images])),
        edge_width=float(np.nanmean([edge_width(image) for image in images])),
    )


def _psnr(images: _Images, true: _Images) -> Float[np.ndarray, " count"]:
    errors = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(images, true, strict=True)]
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / np.array(errors))
