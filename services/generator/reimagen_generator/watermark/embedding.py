"""Embed the watermark into images."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8

from reimagen_generator.watermark.luminance import local_deviation, luminance, resize, scaled
from reimagen_generator.watermark.pattern import layouts_of

SHORTEST_SIDE: Final = 48
"""Images with a shorter side have no room for a mark."""
# Standard deviation of the mark in levels of 255: in flat parts, for each level of deviation of the image, and at most.
# Texture hides a mark, flat parts do not.
_FLAT: Final = 0.85
_TEXTURED: Final = 0.17
_STRONGEST: Final = 3.5


@dataclass(frozen=True)
class Embedded:
    """The mark that `embed` puts into an image."""

    id: int | None
    """The id, or None if the image has no room for it."""


def embedded(pixels: UInt8[np.ndarray, "height width 3"], number: int) -> Embedded | None:
    """Return the mark that `embed` puts into an image with an id, or None if it puts none."""
    if min(pixels.shape[:2]) < SHORTEST_SIDE:
        return None
    layouts = layouts_of(max(pixels.shape[:2]))
    return Embedded(number if any(layout.symbols for layout in layouts) else None)


def embed(pixels: UInt8[np.ndarray, "height width 3"], number: int) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image with the mark of an id, or the image itself if it is smaller than SHORTEST_SIDE.

    Args:
        pixels: The image.
        number: The id, of 32 bits. Images of less than 128 pixels have no room for it.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < SHORTEST_SIDE:
        return pixels
    layouts = layouts_of(max(height, width))
    reduced = scaled(luminance(pixels), layouts[0].side)
    strength = np.minimum(_FLAT + _TEXTURED * local_deviation(reduced), _STRONGEST)
    mark = sum(_tiled(layout.draw(number), reduced.shape) for layout in layouts)
    change = resize(strength * mark, height, width)
    return np.asarray(np.clip(pixels + np.rint(change)[..., np.newaxis], 0, 255).astype(np.uint8))


def _tiled(tile: Float[np.ndarray, "side side"], shape: tuple[int, ...]) -> Float[np.ndarray, "height width"]:
    rows, columns = (np.arange(length) % tile.shape[0] for length in shape)
    return tile[np.ix_(rows, columns)]
