"""Read the provenance in an image file, without a service."""

from pathlib import Path
from typing import Any, Final

from PIL import ExifTags, Image
from pydantic import Field, ValidationError

from reimagen_client.errors import InvalidRequest
from reimagen_client.models import Model, Neighbor

_KEYWORD: Final = "reimagen"
"""Keyword of the text chunk of a PNG."""
# EXIF's UserComment begins with eight bytes that name its character set.
_ASCII: Final = b"ASCII\x00\x00\x00"
_FORMATS: Final = ("PNG", "JPEG", "WEBP")


class Provenance(Model):
    """The provenance of an image: enough to draw it again and to credit its neighbors."""

    prompt: str = Field(description="Prompt of the image.")
    seed: int | None = Field(None, description="Seed of the image; None if its model has no seeds.")
    size: int = Field(description="Width and height of the image in pixels.")
    cascade: str = Field(description="Name of the cascade that drew it.")
    neighbors: tuple[Neighbor, ...] = Field((), description="Neighbors that it is grounded on, best first.")
    revision: str = Field("", description="Revision of the knowledge base; empty if nothing was retrieved.")
    guidance: dict[str, Any] = Field({}, description="Guidance of the request.")
    quality: str = Field("auto", description="Quality of the request.")
    settings: dict[str, Any] = Field({}, description="Other fields of the request that differ from their defaults.")
    references: bool = Field(False, description="Whether the neighbors are the request's references.")
    created: int | None = Field(None, description="Time of drawing, in seconds since 1970, if the file contains it.")


def inspect(path: str | Path) -> Provenance:
    """Return the provenance in an image file. It is not signed: `Client.verify` says whether it is genuine.

    Raises:
        InvalidRequest: The file cannot be read as an image, or has no provenance.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.format == "PNG":
                image.load()  # The chunk may follow the pixels.
                text: Any = image.info.get(_KEYWORD)
            else:
                text = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
        if isinstance(text, bytes):
            text = text.removeprefix(_ASCII).decode("ascii")
        if not isinstance(text, str):
            raise InvalidRequest(f"{path} has no provenance; it must be an image that Re-Imagen drew", field="image")
        return Provenance.model_validate_json(text)
    except (ValidationError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} has a text that is no provenance", field="image") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as a PNG, JPEG or WebP image: {error}", field="image") from error
