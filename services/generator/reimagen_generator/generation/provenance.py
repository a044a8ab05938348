"""Write the provenance of an image into its file, and read it back.

It is written twice: as XMP for other programs, and as JSON, which `read` returns unchanged.
"""

import hashlib
import io
import json
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, PngImagePlugin
from pydantic import TypeAdapter

from reimagen_common.errors import InvalidArgument
from reimagen_generator.generation import xmp
from reimagen_generator.generation.request import GenerationRequest, OutputFormat, Quality

KEYWORD: Final = "reimagen"
# The keyword of XMP in a PNG, by Adobe's specification.
_PNG_XMP: Final = "XML:com.adobe.xmp"
# EXIF's UserComment begins with eight bytes that name its character set.
_ASCII: Final = b"ASCII\x00\x00\x00"
# A JPEG segment holds 64 KiB. The rest is reserved for the structure of EXIF.
_JPEG_BYTES: Final = 60_000
_QUALITY: Final = 95
_FORMATS: Final = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class Source:
    """The entry of one neighbor in the provenance."""

    id: str
    caption: str
    source: str
    license: str
    weight: float = 1.0
    """Factor of its share of the attention to the neighbors."""
    cut_out: bool = False
    """Whether the network saw the object of the image alone, cut out, on a plain ground."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of one image: what it was drawn from, and the neighbors to credit."""

    prompt: str
    seed: int | None
    """None if the model has no seeds, so that the image cannot be drawn again."""
    size: int
    cascade: str
    neighbors: Sequence[Source] = ()
    revision: str = ""
    guidance: Mapping[str, Any] = field(default_factory=dict)
    quality: Quality = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the request that no other field of the provenance holds, if they differ from their defaults."""
    references: bool = False
    """Whether the neighbors are the request's references; otherwise a search found them."""
    created: int | None = None
    """Time of drawing in seconds since 1970; None in files that are not signed, so that they repeat to the byte."""

    def to_json(self) -> str:
        """Return the provenance as JSON that contains only ASCII characters."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the JSON that `to_json` wrote.

        Raises:
            ValueError: The text is not the JSON of a provenance.
        """
        parsed = TypeAdapter(cls).validate_json(text)
        return replace(parsed, neighbors=tuple(parsed.neighbors))

    def to_request(self) -> dict[str, Any]:
        """Return the JSON body of a request that draws the image again.

        The images of references are in no file: their entries have only captions, so that a request without the images
        is refused. Pairs of the knowledge base are named by their ids.
        """
        body: dict[str, Any] = {
            "prompt": self.prompt,
            "size": f"{self.size}x{self.size}",
            "model": self.cascade,
            **self.settings,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.quality != "auto":
            body["quality"] = self.quality
        if self.guidance:
            body["guidance"] = dict(self.guidance)
        if self.references:
            body["references"] = [_reference(neighbor) for neighbor in self.neighbors]
        return body


def _reference(neighbor: Source) -> dict[str, Any]:
    named: dict[str, Any] = {"pair_id": neighbor.id} if neighbor.id else {"caption": neighbor.caption}
    changed = {"weight": neighbor.weight} if neighbor.weight != 1 else {}
    return named | changed | ({"cut_out": True} if neighbor.cut_out else {})


_ELSEWHERE: Final = {"prompt", "n", "size", "seed", "guidance", "quality", "references", "previews", "user"}
_OF_THE_FILE: Final = {"output_format", "output_compression"}


def settings_of(request: GenerationRequest) -> dict[str, Any]:
    """Return the `settings` of a request's images: what was changed, and neither images nor the user's id."""
    fields = set(GenerationRequest.model_fields) - _ELSEWHERE - _OF_THE_FILE
    return request.model_dump(mode="json", include=fields, exclude_defaults=True)


def image_number(provenance: Provenance, pixels: UInt8[np.ndarray, "height width 3"]) -> int:
    """Return the 32 bits that an image's watermark holds: the same for the same request and pixels."""
    digest = hashlib.sha256(replace(provenance, created=None).to_json().encode())
    digest.update(pixels.tobytes())
    return int.from_bytes(digest.digest()[:4], "big")


def encode(
    pixels: UInt8[np.ndarray, "height width 3"],
    output_format: OutputFormat,
    provenance: Provenance,
    compression: int | None = None,
) -> bytes:
    """Return an image file that contains its provenance: as XMP, and in a PNG's text chunk or a JPEG's or WebP's EXIF.

    Args:
        pixels: The image.
        output_format: The format of the file.
        provenance: The provenance to write into the file.
        compression: The quality of a JPEG or WebP, 0 to 100; None means 95.
    """
    # libjpeg does not accept quality 0.
    quality = _QUALITY if compression is None else max(1, compression)
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    match output_format:
        case "png":
            texts = PngImagePlugin.PngInfo()
            texts.add_itxt(KEYWORD, provenance.to_json())
            texts.add_itxt(_PNG_XMP, xmp.packet(provenance).decode())
            image.save(buffer, "PNG", pnginfo=texts)
        case "jpeg":
            short = _shorten(provenance)
            image.save(buffer, "JPEG", quality=quality, subsampling=0, exif=_exif(short), xmp=xmp.packet(short))
        case "webp":
            image.save(buffer, "WEBP", quality=quality, exif=_exif(provenance), xmp=xmp.packet(provenance))
    return buffer.getvalue()


def read(file: Path | BinaryIO) -> Provenance:
    """Return the provenance in an image file.

    Raises:
        InvalidArgument: The file is not an image, or contains no provenance.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images and damaged metadata.
            warnings.simplefilter("ignore")
            text = _text(file)
        return Provenance.from_json(text)
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read as a PNG, JPEG or WebP image") from error
    except (ValueError, AttributeError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise InvalidArgument(f"{file} has no provenance; it must be an image that Re-Imagen drew") from error


def _text(file: Path | BinaryIO) -> str:
    with Image.open(file, formats=_FORMATS) as image:
        if image.format == "PNG":
            return str(image.info.get(KEYWORD, ""))
        comment: bytes = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
        return comment.removeprefix(_ASCII).decode("ascii")


def _exif(provenance: Provenance) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = KEYWORD
    exif[ExifTags.Base.ImageDescription] = provenance.prompt
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _ASCII + provenance.to_json().encode("ascii")
    return exif


def _shorten(provenance: Provenance) -> Provenance:
    """Shorten the neighbors' texts until the provenance fits into JPEG segments; drop very long settings."""
    if len(json.dumps(provenance.settings)) > _JPEG_BYTES // 2:
        provenance = replace(provenance, settings={})
    for characters in (1_000, 300, 100, 30):
        exif_bytes = len(provenance.to_json()) + 6 * len(provenance.prompt)
        if max(exif_bytes, len(xmp.packet(provenance))) <= _JPEG_BYTES:
            break
        provenance = replace(
            provenance,
            neighbors=tuple(
                replace(
                    one,
                    id=one.id[:characters],
                    caption=one.caption[:characters],
                    source=one.source[:characters],
                    license=one.license[:characters],
                )
                for one in provenance.neighbors
            ),
        )
    return provenance
