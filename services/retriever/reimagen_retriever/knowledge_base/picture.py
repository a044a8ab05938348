"""Looking at a picture's file before it is taken in."""

import io
from dataclasses import dataclass, field

from reimagen_common.pictures import MAXIMUM_PICTURE_BYTES, PictureError, read_picture
from reimagen_retriever.knowledge_base.fingerprint import DECODED_SIDE, fingerprint_of
from reimagen_retriever.knowledge_base.pair import MediaType, RejectedError

_MEDIA_TYPES: dict[str, MediaType] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""Of the formats that are stored as they come; clients expect no others."""


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture's file once it has been decoded."""

    media_type: MediaType
    width: int
    height: int
    fingerprint: bytes = field(default=b"", compare=False)
    """By which near-duplicates are told, see `knowledge_base.fingerprint`."""


def picture_to_store(data: bytes) -> tuple[bytes, PictureFacts]:
    """Decode a picture's file to the end; return the file to store for it and what that is.

    PNG, JPEG and WebP files are stored as they are. Of other types the first picture is stored, upright and over
    white, as PNG without loss, or as JPEG where that would be too large.

    Raises:
        RejectedError: the file is larger than 4 MiB, or is no readable picture.
    """
    if len(data) > MAXIMUM_PICTURE_BYTES:
        raise RejectedError("picture file too large", f"{len(data):,} bytes, at most {MAXIMUM_PICTURE_BYTES:,}")
    try:
        picture = read_picture(data, DECODED_SIDE)
        media_type = _MEDIA_TYPES.get(picture.format)
        if media_type is None:
            return picture_to_store(_converted(data))
    except PictureError as error:
        raise RejectedError(error.reason, error.detail) from error
    return data, PictureFacts(media_type, picture.width, picture.height, fingerprint_of(picture.rgb).tobytes())


def _converted(data: bytes) -> bytes:
    picture = read_picture(data).rgb
    file = io.BytesIO()
    picture.save(file, "PNG")
    if file.tell() > MAXIMUM_PICTURE_BYTES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=95)
    return file.getvalue()
