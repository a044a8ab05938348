"""Image files of others as pixels, at the size at which the cascade looks at them."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import ImageError, read_image

# No stage looks at a neighbor larger than this; keeping more would only hold memory while the request waits.
NEIGHBOR_SIDE: Final = 1_024

MEDIA_TYPES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def decode(data: bytes, *, field: str) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image file as upright RGB over white, at most 1,024 pixels a side.

    Raises:
        InvalidArgument: naming `field`, when it is no readable image or has more than 64 megapixels.
    """
    try:
        return np.asarray(read_image(data, NEIGHBOR_SIDE).rgb)
    except ImageError as error:
        raise InvalidArgument(str(error), field=field) from error


def encode_preview(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Write a PNG that says nothing of its origin: a preview is thrown away."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
