"""Cut the object of an image out, and put it on a plain ground."""

import colorsys
import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import ImageError, read_image
from reimagen_generator.cut_out.matting import matte_of

SIDE: Final = 512
"""Side of a cut-out in pixels."""
FILL: Final = 0.75
"""Longest edge of the object, as a share of a cut-out's side."""
NOTHING_FOUND: Final = "no object was found in the image, so it is used as it is"
NO_BACKGROUND: Final = "no background was found in the image, so it is used as it is"

_LONGEST_SIDE: Final = 1_024
_LEAST_SHARE: Final = 0.005
_MOST_SHARE: Final = 0.9
_HUES: Final = 6
_LIGHTNESSES: Final = (0.92, 0.45)
"""Lightnesses of grounds, the usual one first: the other is for objects that are as pale as the first."""
_ENOUGH: Final = 60.0
"""Mean difference of a channel between object and ground at which the usual lightness is kept."""

_Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class CutOut:
    """A cut-out, or the reason why there is none."""

    image: bytes
    """PNG file of the object on a plain ground; empty if nothing was cut out."""
    warning: str = ""
    """Why nothing was cut out."""


def cut_out(data: bytes, *, field: str) -> CutOut:
    """Return the object of an image file on a plain ground.

    The object is centered, and its longest edge has `FILL` of the side, as in the images that the networks were
    trained with.

    Raises:
        InvalidArgument: The file is not a readable image; the error names `field`.
    """
    try:
        decoded = read_image(data, _LONGEST_SIDE)
    except ImageError as error:
        raise InvalidArgument(str(error), field=field) from error
    image = np.asarray(decoded.rgb)
    matte = matte_of(image, None if decoded.alpha is None else np.asarray(decoded.alpha))
    inside = matte >= 0.5
    if inside.mean() < _LEAST_SHARE:
        return CutOut(b"", NOTHING_FOUND)
    if inside.mean() > _MOST_SHARE:
        return CutOut(b"", NO_BACKGROUND)
    buffer = io.BytesIO()
    _on_ground(image, matte, inside).save(buffer, "PNG", compress_level=4)
    return CutOut(buffer.getvalue())


def _on_ground(
    image: _Image, matte: Float[np.ndarray, "height width"], inside: Bool[np.ndarray, "height width"]
) -> Image.Image:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    opacity = (matte * 255).round().astype(np.uint8)
    sprite = Image.fromarray(np.dstack([image, opacity])).crop(box)
    scale = FILL * SIDE / max(sprite.size)
    width, height = (max(1, round(edge * scale)) for edge in sprite.size)
    sprite = sprite.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (SIDE, SIDE), _ground(image[inside]))
    canvas.paste(sprite, ((SIDE - width) // 2, (SIDE - height) // 2), sprite)
    return canvas


def _ground(pixels: UInt8[np.ndarray, "pixels 3"]) -> tuple[int, int, int]:
    """Return the color of the ground that differs most from the object: a pale one, unless the object is pale too."""
    step = max(1, len(pixels) // 10_000)
    sample = pixels[::step].astype(np.float32)
    best = (0, 0, 0)
    for lightness in _LIGHTNESSES:
        colors = [_color(number / _HUES, lightness) for number in range(_HUES)]
        differences = [float(np.abs(sample - color).max(axis=1).mean()) for color in colors]
        best = colors[int(np.argmax(differences))]
        if max(differences) >= _ENOUGH:
            break
    return best


def _color(hue: float, lightness: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * channel) for channel in colorsys.hls_to_rgb(hue, lightness, 0.5))
    return red, green, blue
