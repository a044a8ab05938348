"""What a cascade reads its texts with."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class T5Text(BaseModel):
    """A T5 v1.1 (`text/t5.py`). Its files are the user's, so that a configuration names no folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["t5"] = "t5"
    length: int = Field(128, ge=2, le=512, description="Tokens of a text, its end among them; 77 for DeepFloyd IF.")


class MiniLmText(BaseModel):
    """all-MiniLM-L6-v2 (`text/minilm.py`), 384 channels. Its files come with a package of the generator's lock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["minilm"] = "minilm"
    length: int = Field(48, ge=2, le=512, description="Tokens of a text, its beginning and its end among them.")


TextEncoderConfig = Literal["hashed-ngrams"] | Annotated[MiniLmText | T5Text, Field(discriminator="kind")]


class DroppedText(StrEnum):
    """What the networks see where a text is dropped, in training and for guidance."""

    MASKED = "masked"
    """No tokens at all."""
    EMPTY_PROMPT = "empty-prompt"
    """The encoder's embedding of the empty text, as DeepFloyd IF's."""
