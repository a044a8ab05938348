"""Looking at a picture's file before it is taken in."""

import io
import warnings
from dataclasses import dataclass, field

from PIL import Image, UnidentifiedImageError

from reimagen_retriever.knowledge_base.pair import MediaType, RejectedError
from reimagen_retriever.neighbors.fingerprint import fingerprint_of

MAXIMUM_PICTURE_BYTES = 4 * 1024 * 1024
MAXIMUM_PICTURE_PIXELS = 64_000_000

_MEDIA_TYPES: dict[str, MediaType] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture's file once it has been decoded."""

    media_type: MediaType
    width: int
    height: int
    fingerprint: bytes = field(default=b"", compare=False)
    """By which near-duplicates are told, see `neighbors.fingerprint`."""


def inspect_picture(data: bytes) -> PictureFacts:
    """Decodes a PNG, JPEG or WebP file to the end and tells what it is.

    Raises:
        RejectedError: it is larger than 4 MiB or 64 megapixels, of another format, or broken.
    """
    if not data:
        raise RejectedError("broken picture", "the file is empty")
    if len(data) > MAXIMUM_PICTURE_BYTES:
        raise RejectedError("picture file too large", f"{len(data):,} bytes, at most {MAXIMUM_PICTURE_BYTES:,}")
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes that are refused below, and about harmless flaws in metadata.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=tuple(_MEDIA_TYPES)) as picture:
                width, height = picture.size
                if width * height > MAXIMUM_PICTURE_PIXELS:
                    raise RejectedError("too many pixels", f"{width:,} x {height:,}")
                media_type = _MEDIA_TYPES[picture.format or ""]
                return PictureFacts(media_type, width, height, fingerprint_of(picture).tobytes())
    except RejectedError:
        raise
    except Image.DecompressionBombError as error:
        raise RejectedError("too many pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise RejectedError("broken picture", "neither PNG, JPEG nor WebP") from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble upon.
        raise RejectedError("broken picture", str(error) or type(error).__name__) from error
