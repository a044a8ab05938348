"""Decode image files to RGB, with the formats and limits of both services."""

import io
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

MAXIMUM_IMAGE_BYTES: Final = 4 * 1024 * 1024
MAXIMUM_IMAGE_PIXELS: Final = 64_000_000
READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
READABLE_NAMES: Final = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 or PPM"
IMAGE_ENDINGS: Final = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Endings of readable image files, in lower case."""
UNREADABLE_ENDINGS: Final = (".heic", ".heif", ".hif", ".jxl", ".svg", ".psd")
"""Endings of image files that cannot be decoded and are reported, in lower case."""

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
# The two text chunks from which Pillow reads the orientation.
_ORIENTATION_KEYWORDS: Final = (b"Raw profile type exif", b"XML:com.adobe.xmp")
_LONGEST_TEXT: Final = 64 * 1024
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An error of a file that is not a readable image.

    Args:
        reason: A short phrase for counting such files.
        detail: The details.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image file."""

    format: str
    """The format, one of READABLE_FORMATS."""
    width: int
    """Width of the stored image in pixels, before it is turned upright."""
    height: int
    """Height of the stored image in pixels, before it is turned upright."""
    rgb: Image.Image
    """The first image of the file, turned upright, on a white background."""
    alpha: Image.Image | None = None
    """The opacity of the first image, turned upright; None if the file has no transparency."""


def read_image(data: bytes, side: int | None = None) -> DecodedImage:
    """Decode an image file, reduced so that each side has at most `side` pixels.

    Only the first image of an animation or of a JPEG file with several images (MPO) is decoded.

    Raises:
        ImageError: The file has another type, is broken, or has more than 64 megapixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes that are rejected below, and about harmless defects in metadata.
            warnings.simplefilter("ignore")
            with _opened(data) as image:
                width, height = image.size
                if width * height > MAXIMUM_IMAGE_PIXELS:
                    raise _too_many_pixels(f"{width:,} x {height:,} pixels")
                return DecodedImage(image.format or "", width, height, *_upright(image, side))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(str(error)) from error
    except UnidentifiedImageError as error:
        raise ImageError(*_unknown(data)) from error
    except Exception as error:  # Pillow's decoders raise various errors on broken files.
        raise ImageError("broken image", str(error) or type(error).__name__) from error


def _opened(data: bytes) -> Image.Image:
    if data.startswith(b"\xff\xd8\xff"):
        # Image.open would treat a JPEG file with several images (MPO) as another format.
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if data.startswith(_PNG_START):
        data = b"".join([_PNG_START, *_pixel_chunks(data)])
    return Image.open(io.BytesIO(data), formats=READABLE_FORMATS)


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG file that its image depends on. Texts and profiles may inflate without limit."""
    start = len(_PNG_START)
    while start < len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        kind, end = data[start + 4 : start + 8], start + 12 + length
        if kind in _PIXEL_CHUNKS or _has_orientation(kind, data[start + 8 : end - 4]):
            yield data[start:end]
        if kind == b"IEND":
            return
        start = end


def _has_orientation(kind: bytes, content: bytes) -> bool:
    keyword, _, text = content.partition(b"\0")
    if kind not in {b"tEXt", b"zTXt", b"iTXt"} or keyword not in _ORIENTATION_KEYWORDS or len(content) > _LONGEST_TEXT:
        return False
    if kind == b"tEXt" or (kind == b"iTXt" and text[:1] == b"\0"):
        return True
    compressed = text[1:] if kind == b"zTXt" else text[2:].split(b"\0", 2)[-1]
    inflating = zlib.decompressobj()
    try:
        inflating.decompress(compressed, _LONGEST_TEXT)
    except zlib.error:
        return False
    return not inflating.unconsumed_tail


def _upright(image: Image.Image, side: int | None) -> tuple[Image.Image, Image.Image | None]:
    """Return an image over white, and its opacity if it has any transparency."""
    if side is not None:
        image.draft("RGB", (side, side))  # Decode a JPEG at a reduced size if possible.
    image.load()
    turn = _TURNS.get(_orientation(image))
    pixels = _eight_bits(image)
    if side is not None:
        pixels.thumbnail((side, side), Image.Resampling.LANCZOS)
    if turn is not None:
        pixels = pixels.transpose(turn)
    if pixels.mode not in {"RGBA", "LA"}:
        return pixels.convert("RGB"), None
    with_alpha = pixels.convert("RGBA")
    over_white = Image.alpha_composite(Image.new("RGBA", with_alpha.size, "white"), with_alpha)
    return over_white.convert("RGB"), with_alpha.getchannel("A")


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow has already turned it upright.
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken metadata does not make the pixels unreadable.
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert an image to a mode that can be resized: L, LA, RGB or RGBA."""
    if image.mode.startswith(("I", "F")):
        return _from_deep_gray(image)
    if image.mode in {"RGBA", "LA"}:
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in {"L", "RGB"} else image.convert("L" if image.mode == "1" else "RGB")


def _from_deep_gray(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits. Pillow would clip the values."""
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ImageError("unsupported image type", "32 bits per pixel with an undefined white level")
    gray = Image.fromarray((pixels // 256).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray.putalpha(Image.fromarray(np.where(pixels == transparent, 0, 255).astype(np.uint8)))
    return gray


def _too_many_pixels(size: str) -> ImageError:
    return ImageError("too many pixels", f"{size}, at most {MAXIMUM_IMAGE_PIXELS:,}")


def _unknown(data: bytes) -> tuple[str, str]:
    """Return the reason and detail for a file of an unreadable type. Well-known types are named."""
    start = data[:64].lstrip()
    named = {
        "HEIC": data[4:8] == b"ftyp" and data[8:12] in {b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"},
        "JPEG XL": data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")),
        "SVG": start.startswith((b"<svg", b"<?xml")),
        "Photoshop": data.startswith(b"8BPS"),
        "PDF": data.startswith(b"%PDF"),
    }
    found = next((name for name, matches in named.items() if matches), "")
    if not data:
        return "broken image", "the file is empty"
    if not found:
        return "broken image", f"not {READABLE_NAMES}"
    return "unsupported image type", f"{found}; convert it to PNG, JPEG or WebP"
