"""Configurations of the text encoders of a cascade."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class T5Text(BaseModel):
    """A T5 v1.1 (`text/t5.py`). The user provides its files, so the configuration names no folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["t5"] = "t5"
    length: int = Field(
        128, ge=2, le=512, description="Tokens of a text, including the end token; 77 for DeepFloyd IF."
    )


class MiniLmText(BaseModel):
    """all-MiniLM-L6-v2 (`text/minilm.py`), 384 channels. A package in the generator's lock file contains its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["minilm"] = "minilm"
    length: int = Field(48, ge=2, le=512, description="Tokens of a text, including the start and end tokens.")


TextEncoderConfig = Literal["hashed-ngrams"] | Annotated[MiniLmText | T5Text, Field(discriminator="kind")]


class DroppedText(StrEnum):
    """What the networks see in place of a dropped text, in training and for guidance."""

    MASKED = "masked"
    """No tokens at all: the text is masked."""
    EMPTY_PROMPT = "empty-prompt"
    """The encoder's embedding of the empty text, as in DeepFloyd IF."""
