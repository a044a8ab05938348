"""Images as pixels: read as the generator reads them, and cut or padded to squares."""

import io

import numpy as np
from PIL import Image

from reimagen_common.images import read_image

LARGEST_SIDE = 1_024
"""The generator looks at no image larger than this."""
LARGEST_PNG = 64
"""Side in pixels up to which squares are stored as PNG, larger ones as WebP."""


def cropped(data: bytes, size: int) -> tuple[str, bytes]:
    """The middle of an image as a square file of `size` pixels, and its extension: what a network learns to draw.

    A padded image would teach it to draw bars.
    """
    image = read_image(data, LARGEST_SIDE).rgb
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _file(image.crop((left, top, left + side, top + side)), size)


def padded(data: bytes, size: int) -> tuple[str, bytes]:
    """The whole image as a square file of `size` pixels, and its extension: a neighbor as the generator sees it.

    The generator pads a neighbor with its border's mean color rather than lose what stands at its edge.
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
