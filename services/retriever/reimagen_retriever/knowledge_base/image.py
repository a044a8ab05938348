"""Check and convert image files before they are stored."""

import io
from dataclasses import dataclass, field

from reimagen_common.images import MAXIMUM_IMAGE_BYTES, ImageError, read_image
from reimagen_retriever.knowledge_base.fingerprint import DECODED_SIDE, fingerprint_of
from reimagen_retriever.knowledge_base.pair import MediaType, RejectedError

_MEDIA_TYPES: dict[str, MediaType] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""Media types of the formats that are stored unchanged; clients expect no others."""


@dataclass(frozen=True)
class ImageFacts:
    """The properties of a decoded image file."""

    media_type: MediaType
    width: int
    height: int
    fingerprint: bytes = field(default=b"", compare=False)
    """Fingerprint of the image, see `knowledge_base.fingerprint`."""


def image_to_store(data: bytes) -> tuple[bytes, ImageFacts]:
    """Decode an image file completely; return the file to store and its facts.

    PNG, JPEG and WebP files are stored as they are. From files of other types the first image is stored, upright and
    over white, as lossless PNG, or as JPEG if the PNG would be too large.

    Raises:
        RejectedError: The file is larger than 4 MiB, or is not a readable image.
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
