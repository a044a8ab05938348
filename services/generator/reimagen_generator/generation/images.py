"""Media types of image files, and previews."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MEDIA_TYPES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def encode_preview(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Return the pixels as a PNG file without provenance, because previews are not stored."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
