"""Looking at an image's file before it is taken in."""

import io
from dataclasses import dataclass, field

from reimagen_common.images import MAXIMUM_IMAGE_BYTES, ImageError, read_image
from reimagen_retriever.knowledge_base.fingerprint import DECODED_SIDE, fingerprint_of
from reimagen_retriever.knowledge_base.pair import MediaType, RejectedError

_MEDIA_TYPES: dict[str, MediaType] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""Of the formats that are stored as they come; clients expect no others."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image's file once it has been decoded."""

    media_type: MediaType
    width: int
    height: int
    fingerprint: bytes = field(default=b"", compare=False)
    """By which near-duplicates are told, see `knowledge_base.fingerprint`."""


def image_to_store(data: bytes) -> tuple[bytes, ImageFacts]:
    """Decode an image's file to the end; return the file to store for it and what that is.

    PNG, JPEG and WebP files are stored as they are. Of other types the first image is stored, upright and over
    white, as PNG without loss, or as JPEG where that would be too large.

    Raises:
        RejectedError: the file is larger than 4 MiB, or is no readable image.
    """
    if len(data) > MAXIMUM_IMAGE_BYTES:
        raise RejectedError("image file too large", f"{len(data):,} bytes, at most {MAXIMUM_IMAGE_BYTES:,}")
    try:
        image = read_image(data, DECODED_SIDE)
        media_type = _MEDIA_TYPES.get(image.format)
        if media_type is None:
            return image_to_store(_converted(data))
    except ImageError as error:
        raise RejectedError(error.reason, error.detail) from error
    return data, ImageFacts(media_type, image.width, image.height, fingerprint_of(image.rgb).tobytes())


def _converted(data: bytes) -> bytes:
    image = read_image(data).rgb
    file = io.BytesIO()
    image.save(file, "PNG")
    if file.tell() > MAXIMUM_IMAGE_BYTES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
    return file.getvalue()
