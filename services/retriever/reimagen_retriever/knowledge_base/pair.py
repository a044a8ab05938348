"""Pairs: as a source offers them, as the index stores them, and the checks of their texts."""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.normalization import is_visible

MAXIMUM_TEXT_CHARACTERS = 10_000
MAXIMUM_ID_BYTES = 512
MAXIMUM_NOTE_CHARACTERS = 2_000  # of a source or a license
_SHARD = ".tar"

# Control characters, including null bytes, and lone surrogates.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MediaType = Literal["image/png", "image/jpeg", "image/webp"]


class StoredPair(BaseModel):
    """A pair as the index stores it: its caption, and the location of its image in the shards."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="Unique within the knowledge base.")
    caption: str = Field(description="Text that says what the image shows, and is searched.")
    shard: str = Field(description="File name of the tar shard that holds the image.")
    offset: int = Field(ge=0, description="Offset of the image's first byte in the shard.")
    length: int = Field(gt=0, description="Length of the image file in bytes.")
    sha256: str = Field(description="SHA-256 of the image file, in hexadecimal.")
    media_type: MediaType = Field(description="Media type of the image file.")
    width: int = Field(gt=0, description="Width in pixels.")
    height: int = Field(gt=0, description="Height in pixels.")
    source: str = Field(default="", description="Origin of the image, such as a URL; empty when unknown.")
    license: str = Field(default="", description="SPDX identifier or name of the license; empty when unknown.")
    unsafe: float | None = Field(
        default=None, ge=0, le=1, description="Probability that the image is not safe for work, from the source."
    )
    duplicate_of: str = Field(default="", description="Id of an earlier pair with nearly the same image, if any.")

    @property
    def shard_number(self) -> int:
        """The number of the shard, from which `shard_name` makes its file name."""
        return int(self.shard.removesuffix(_SHARD))

    @property
    def position(self) -> int:
        """The order number of the pair in the base, from its shard's number and its byte offset."""
        return self.shard_number << 40 | self.offset


def shard_name(number: int) -> str:
    """Return the file name of the shard with that number."""
    return f"{number:05d}{_SHARD}"


@dataclass(frozen=True)
class SourcePair:
    """A pair as a source offers it, before any check."""

    location: str
    """Location in the source, for messages."""
    id: str
    caption: str
    image: bytes
    source: str = ""
    license: str = ""
    unsafe: float | None = None
    """Probability that the image is not safe for work, 0 to 1."""
    duplicate_of: str = ""
    """Id of an earlier pair with nearly the same image."""
    watermark: float | None = None
    """Probability of a watermark, 0 to 1."""
    similarity: float | None = None
    """CLIP's cosine of image and caption."""


@dataclass(frozen=True)
class Rejected:
    """An entry of a source that cannot become a pair, and why."""

    location: str
    reason: str
    """One of a few short phrases, so that rejections can be counted by reason."""
    detail: str = ""


class RejectedError(ValueError):
    """The error of a check that rejects one entry; a build counts it and continues."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def checked_caption(text: str) -> str:
    """Return the caption with its white space collapsed.

    Raises:
        RejectedError: The caption is empty or too long, or holds control characters or lone surrogates.
    """
    text = _printable("caption", text)
    if not is_visible(text):
        raise RejectedError("empty caption")
    if len(text) > MAXIMUM_TEXT_CHARACTERS:
        raise RejectedError("caption too long", f"{len(text):,} characters, at most {MAXIMUM_TEXT_CHARACTERS:,}")
    return text


def checked_id(identifier: str) -> str:
    """Return the id unchanged; any space that a file name can have is legal.

    Raises:
        RejectedError: The id is empty or too long, or holds control characters or lone surrogates.
    """
    if has_control_characters(identifier) or not identifier.strip():
        raise RejectedError("bad id", f"{identifier[:80]!r}")
    if len(identifier.encode()) > MAXIMUM_ID_BYTES:
        raise RejectedError("bad id", f"longer than {MAXIMUM_ID_BYTES} bytes")
    return identifier


def checked_note(name: str, text: str) -> str:
    """Return a source or license with its white space collapsed.

    Raises:
        RejectedError: The text is too long, or holds control characters or lone surrogates.
    """
    text = _printable(name, text)
    if len(text) > MAXIMUM_NOTE_CHARACTERS:
        raise RejectedError(f"{name} too long", f"{len(text):,} characters, at most {MAXIMUM_NOTE_CHARACTERS:,}")
    return text


def has_control_characters(text: str) -> bool:
    """Return whether the text holds control characters or lone surrogates."""
    return _CONTROL_CHARACTERS.search(text) is not None


def _printable(name: str, text: str) -> str:
    text = " ".join(text.split())
    bad = _CONTROL_CHARACTERS.search(text)
    if bad:
        raise RejectedError("bad characters", f"{name} holds U+{ord(bad[0]):04X}")
    return text
