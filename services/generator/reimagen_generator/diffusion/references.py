"""References as the cascade takes them: from neighbors of any size to what its networks are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import ImageError, read_image
from reimagen_generator.diffusion.resize import to_float

# No stage looks at a neighbor larger than this; keeping more would only hold memory while the request waits.
NEIGHBOR_SIDE: Final = 1_024

_Image = UInt8[np.ndarray, "height width 3"]

_OVERLAP = 1.35
"""Images side by side are so much wider than their share: what they show has room around it."""
_MIDDLE = 0.56
"""Where the middles of these are, from the top, in shares of the side: things stand on some ground."""


@dataclass(frozen=True)
class ReferencePair:
    """A neighbor as the cascade takes it: an image of any size and what it shows."""

    image: _Image
    caption: str


def decode(data: bytes, *, field: str) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image file as upright RGB over white, at most 1,024 pixels a side.

    Raises:
        InvalidArgument: naming `field`, when it is no readable image or has more than 64 megapixels.
    """
    try:
        return np.asarray(read_image(data, NEIGHBOR_SIDE).rgb)
    except ImageError as error:
        raise InvalidArgument(str(error), field=field) from error


def side_by_side(pairs: Sequence[ReferencePair]) -> list[ReferencePair]:
    """Neighbors with different texts, each made smaller and put beside the others, in the order of their first texts.

    For networks that draw what a neighbor shows where the neighbor shows it: of two things in full size they would draw
    one over the other.
    """
    texts = list(dict.fromkeys(pair.caption for pair in pairs))
    if len(texts) < 2:
        return list(pairs)
    places = {text: (number + 0.5) / len(texts) for number, text in enumerate(texts)}
    return [
        ReferencePair(_placed(pair.image, places[pair.caption], _OVERLAP / len(texts)), pair.caption) for pair in pairs
    ]


def resized(pairs: Sequence[ReferencePair], size: int, slots: int) -> Float[Array, "1 slots size size 3"]:
    """The neighbors as squares of `size`, in [-1, 1]; black where there are fewer than `slots`."""
    squares = [square(pair.image, size) for pair in pairs]
    squares += [np.zeros((size, size, 3), np.uint8)] * (slots - len(pairs))
    return to_float(jnp.asarray(np.stack(squares)))[None]


def square(image: _Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A square of `size` with the whole image, padded with its border's mean color, not stretched."""
    return np.asarray(_padded(image).resize((size, size), Image.Resampling.LANCZOS))


def _placed(image: _Image, middle: float, scale: float) -> _Image:
    """A square with the image in it, its middle so far from the left, on the ground that its border has."""
    side = max(image.shape[:2])
    small = max(1, round(scale * side))
    corner = round(middle * side - small / 2), round(_MIDDLE * side - small / 2)
    canvas = Image.new("RGB", (side, side), _ground(image))
    canvas.paste(Image.fromarray(square(image, small)), corner)
    return np.asarray(canvas)


def _padded(image: _Image) -> Image.Image:
    height, width, _ = image.shape
    side = max(height, width)
    canvas = Image.new("RGB", (side, side), _ground(image))
    canvas.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return canvas


def _ground(image: _Image) -> tuple[int, int, int]:
    """The mean color of the image's border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    red, green, blue = (int(channel) for channel in border.mean(axis=0).round())
    return red, green, blue
