"""Pictures as pixels: read as the generator reads them, and cut or padded to squares."""

import io

import numpy as np
from PIL import Image

from reimagen_common.pictures import read_picture

LARGEST_SIDE = 1_024
"""The generator looks at no picture larger than this."""
LARGEST_PNG = 64
"""Side in pixels up to which squares are stored as PNG, larger ones as WebP."""


def cropped(data: bytes, size: int) -> tuple[str, bytes]:
    """The middle of a picture as a square file of `size` pixels, and its extension: what a network learns to draw.

    A padded picture would teach it to draw bars.
    """
    picture = read_picture(data, LARGEST_SIDE).rgb
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return _file(picture.crop((left, top, left + side, top + side)), size)


def padded(data: bytes, size: int) -> tuple[str, bytes]:
    """The whole picture as a square file of `size` pixels, and its extension: a neighbor as the generator sees it.

    The generator pads a neighbor with its border's mean color rather than lose what stands at its edge.
    """
    picture = read_picture(data, LARGEST_SIDE).rgb
    side = max(picture.size)
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    canvas = Image.new("RGB", (side, side), tuple(int(channel) for channel in border.mean(axis=0).round()))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return _file(canvas, size)


def _file(picture: Image.Image, size: int) -> tuple[str, bytes]:
    picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if size <= LARGEST_PNG:
        picture.save(buffer, "PNG", compress_level=4)
        return "png", buffer.getvalue()
    picture.save(buffer, "WEBP", quality=95, method=2)
    return "webp", buffer.getvalue()
