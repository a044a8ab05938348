"""References of any size: their files, and their images as squares.

This module does not import JAX, because the backend of an image server needs it.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import ImageError, read_image

# No stage uses a neighbor larger than this; a larger one would only take memory while the request waits.
NEIGHBOR_SIDE: Final = 1_024

_Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class ReferencePair:
    """A neighbor: an image of any size and its caption, and how much it counts."""

    image: _Image
    caption: str
    weight: float = 1.0
    """Factor of its share of the attention to the neighbors, above 0; a neighbor of weight 0 must be left out."""

    def __post_init__(self) -> None:
        """Check the weight.

        Raises:
            ValueError: The weight is not above 0.
        """
        if not self.weight > 0:
            raise ValueError(f"weight: must be above 0, got {self.weight}; leave a neighbor of weight 0 out")

    @cached_property
    def digest(self) -> bytes:
        """The SHA-256 of the image and the caption, by which what is computed of them is cached."""
        digest = hashlib.sha256(repr(self.image.shape).encode())
        digest.update(self.image.tobytes())
        digest.update(self.caption.encode("utf-8", "surrogatepass"))
        return digest.digest()


def decode(data: bytes, *, field: str) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image file as upright RGB over white, at most 1,024 pixels per side.

    Raises:
        InvalidArgument: The file is not a readable image, or has more than 64 megapixels; the error names `field`.
    """
    try:
        return np.asarray(read_image(data, NEIGHBOR_SIDE).rgb)
    except ImageError as error:
        raise InvalidArgument(str(error), field=field) from error


def square(image: _Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Return a square of `size` with the whole image, padded with the mean color of its border, not stretched."""
    return np.asarray(_padded(image).resize((size, size), Image.Resampling.LANCZOS))


def _padded(image: _Image) -> Image.Image:
    height, width, _ = image.shape
    side = max(height, width)
    canvas = Image.new("RGB", (side, side), _ground(image))
    canvas.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return canvas


def _ground(image: _Image) -> tuple[int, int, int]:
    """Return the mean color of the image's border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    red, green, blue = (int(channel) for channel in border.mean(axis=0).round())
    return red, green, blue
