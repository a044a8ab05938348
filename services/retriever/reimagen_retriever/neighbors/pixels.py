"""Convert images to squares of pixels, by cropping or padding, as the generator reads them."""

import io

import numpy as np
from PIL import Image

from reimagen_common.images import read_image

LARGEST_SIDE = 1_024
"""Maximum side of an image that the generator reads, in pixels."""
LARGEST_PNG = 64
"""Maximum side of squares that are stored as PNG, in pixels. Larger ones are stored as WebP."""


def cropped(data: bytes, size: int) -> tuple[str, bytes]:
    """Return the extension and the file of the center square of an image, resized to `size` pixels.

    Images that a network learns to draw are cropped, because padding would teach it to draw bars.
    """
    image = read_image(data, LARGEST_SIDE).rgb
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _file(image.crop((left, top, left + side, top + side)), size)


def padded(data: bytes, size: int) -> tuple[str, bytes]:
    """Return the extension and the file of a whole image, padded to a square and resized to `size` pixels.

    The generator pads neighbors with the mean color of their border, because cropping would lose their edges.
    """
    image = read_image(data, LARGEST_SIDE).rgb
    side = max(image.size)
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    canvas = Image.new("RGB", (side, side), tuple(int(channel) for channel in border.mean(axis=0).round()))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return _file(canvas, size)


def _file(image: Image.Image, size: int) -> tuple[str, bytes]:
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if size <= LARGEST_PNG:
        image.save(buffer, "PNG", compress_level=4)
        return "png", buffer.getvalue()
    image.save(buffer, "WEBP", quality=95, method=2)
    return "webp", buffer.getvalue()
