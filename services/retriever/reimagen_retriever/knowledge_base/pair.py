"""What a knowledge base keeps of one pair besides its image's bytes."""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.normalization import is_visible

MAXIMUM_TEXT_CHARACTERS = 10_000
MAXIMUM_ID_BYTES = 512
MAXIMUM_NOTE_CHARACTERS = 2_000  # of a source or a license

# Control characters, null bytes among them, and surrogates without their other half.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MediaType = Literal["image/png", "image/jpeg", "image/webp"]


class StoredPair(BaseModel):
    """A pair as the index stores it: its text, and where its image lies in the shards."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="Unique within the knowledge base.")
    caption: str = Field(description="What the image shows; the text that is searched.")
    shard: str = Field(description="File name of the tar shard that holds the image.")
    offset: int = Field(ge=0, description="Of the image's first byte in the shard.")
    length: int = Field(gt=0, description="Of the image's file, in bytes.")
    sha256: str = Field(description="Of the image's file, in hexadecimal.")
    media_type: MediaType = Field(description="Of the image's file.")
    width: int = Field(gt=0, description="In pixels.")
    height: int = Field(gt=0, description="In pixels.")
    source: str = Field(default="", description="Where the image came from; empty when unknown.")
    license: str = Field(default="", description="SPDX identifier or name; empty when unknown.")
    unsafe: float | None = Field(
        default=None, ge=0, le=1, description="Probability of being not safe for work, as the source tells it."
    )
    duplicate_of: str = Field(default="", description="Id of an earlier pair with nearly the same image, if any.")

    @property
    def position(self) -> int:
        """A number by which pairs come in the order in which they were taken in: of the shard, then of the byte."""
        return int(self.shard.removesuffix(".tar")) << 40 | self.offset


@dataclass(frozen=True)
class SourcePair:
    """A pair as a source offers it, before anything about it has been checked."""

    location: str
    """Where it stands in the source, for messages."""
    id: str
    caption: str
    image: bytes
    source: str = ""
    license: str = ""
    unsafe: float | None = None
    """Probability of being not safe for work, 0 to 1."""
    duplicate_of: str = ""
    """Id of an earlier pair with nearly the same image."""
    watermark: float | None = None
    """Probability of having a watermark, 0 to 1."""
    similarity: float | None = None
    """Of image and text, as CLIP's cosine."""


@dataclass(frozen=True)
class Rejected:
    """An entry of a source that cannot become a pair, and why."""

    location: str
    reason: str
    """One of a few short phrases, so that rejections can be counted by reason."""
    detail: str = ""


class RejectedError(ValueError):
    """Raised by checks of one entry; the builder counts it and goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def checked_caption(text: str) -> str:
    """The caption with its white space collapsed.

    Raises:
        RejectedError: it is empty, too long, or holds characters that are no text.
    """
    text = _printable("caption", text)
    if not is_visible(text):
        raise RejectedError("empty caption")
    if len(text) > MAXIMUM_TEXT_CHARACTERS:
        raise RejectedError("caption too long", f"{len(text):,} characters, at most {MAXIMUM_TEXT_CHARACTERS:,}")
    return text


def checked_id(identifier: str) -> str:
    """The id as it stands; all spaces that a file's name can have are legal.

    Raises:
        RejectedError: it is empty, too long, or holds characters that are no text.
    """
    if has_control_characters(identifier) or not identifier.strip():
        raise RejectedError("bad id", f"{identifier[:80]!r}")
    if len(identifier.encode()) > MAXIMUM_ID_BYTES:
        raise RejectedError("bad id", f"longer than {MAXIMUM_ID_BYTES} bytes")
    return identifier


def checked_note(name: str, text: str) -> str:
    """A source or license with its white space collapsed.

    Raises:
        RejectedError: it is too long, or holds characters that are no text.
    """
    text = _printable(name, text)
    if len(text) > MAXIMUM_NOTE_CHARACTERS:
        raise RejectedError(f"{name} too long", f"{len(text):,} characters, at most {MAXIMUM_NOTE_CHARACTERS:,}")
    return text


def has_control_characters(text: str) -> bool:
    """Whether the text holds control characters or halves of surrogates."""
    return _NO_TEXT.search(text) is not None


def _printable(name: str, text: str) -> str:
    text = " ".join(text.split())
    bad = _NO_TEXT.search(text)
    if bad:
        raise RejectedError("bad characters", f"{name} holds U+{ord(bad[0]):04X}")
    return text
