"""Pictures as pixels: read as the generator reads them, and cut or padded to squares."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

LARGEST_SIDE = 1_024
"""The generator looks at no picture larger than this."""
LARGEST_PNG = 64
"""Side in pixels up to which squares are stored as PNG, larger ones as WebP."""


def read_rgb(data: bytes, side: int = LARGEST_SIDE) -> Image.Image:
    """A PNG, JPEG or WebP file as an upright RGB picture over white, at most `side` pixels a side.

    Raises whatever Pillow's decoders raise on a broken file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of harmless flaws in metadata; the size was checked by the build.
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            return upright_rgb(picture, side)


def upright_rgb(picture: Image.Image, side: int) -> Image.Image:
    """What `read_rgb` makes of a file that is open and not yet decoded; a JPEG is decoded no larger than needed."""
    picture.draft("RGB", (side, side))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        # Pillow would clip sixteen bits of gray to eight instead of scaling them.
        return Image.fromarray((np.asarray(upright) // 256).astype(np.uint8)).convert("RGB")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    with_alpha = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", with_alpha.size, "white"), with_alpha).convert("RGB")


def cropped(data: bytes, size: int) -> tuple[str, bytes]:
    """The middle of a picture as a square file of `size` pixels, and its extension: what a network learns to draw.

    A padded picture would teach it to draw bars.
    """
    picture = read_rgb(data)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return _file(picture.crop((left, top, left + side, top + side)), size)


def padded(data: bytes, size: int) -> tuple[str, bytes]:
    """The whole picture as a square file of `size` pixels, and its extension: a neighbor as the generator sees it.

    The generator pads a neighbor with its border's mean color rather than lose what stands at its edge.
    """
    picture = read_rgb(data)
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
