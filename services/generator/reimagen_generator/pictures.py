"""Picture files: reading those that others made, safely, and shrinking them to what the cascade looks at."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from reimagen_common.errors import InvalidArgument

READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP")
MAXIMUM_SIDE: Final = 4_096
# No stage looks at a neighbor larger than this; keeping more would only hold memory while the request waits.
NEIGHBOR_SIDE: Final = 1_024

MEDIA_TYPES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def decode(data: bytes, *, field: str) -> UInt8[np.ndarray, "height width 3"]:
    """Read a PNG, JPEG or WebP file as upright RGB over white, at most 1,024 pixels a side.

    Raises:
        InvalidArgument: naming `field`, when it is no such file, is cut off, or has more than 4,096 pixels a side.
    """
    try:
        with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as picture:
            # The header is enough to refuse a decompression bomb: no pixel has been decoded yet.
            if max(picture.size) > MAXIMUM_SIDE:
                raise InvalidArgument(
                    f"must be at most {MAXIMUM_SIDE:,} pixels a side, got {picture.width:,} x {picture.height:,}",
                    field=field,
                )
            picture.draft("RGB", (NEIGHBOR_SIDE, NEIGHBOR_SIDE))
            return np.asarray(_upright_rgb(picture))
    except Image.DecompressionBombError as error:
        raise InvalidArgument(f"must be at most {MAXIMUM_SIDE:,} pixels a side", field=field) from error
    # Pillow's readers raise several kinds of error, down to IndexError and struct.error, on files made to break them.
    except (OSError, ValueError, SyntaxError, IndexError, KeyError, TypeError, EOFError, ArithmeticError) as error:
        raise InvalidArgument(
            "must be a whole PNG, JPEG or WebP picture; this file cannot be read", field=field
        ) from error


def _upright_rgb(picture: Image.Image) -> Image.Image:
    picture.thumbnail((NEIGHBOR_SIDE, NEIGHBOR_SIDE), Image.Resampling.LANCZOS)
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        # Pillow would clip sixteen bits of gray to eight instead of scaling them.
        return Image.fromarray((np.asarray(upright) // 256).astype(np.uint8)).convert("RGB")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    with_alpha = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", with_alpha.size, "white"), with_alpha).convert("RGB")


def encode_preview(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Write a PNG that says nothing of its origin: a preview is thrown away."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
