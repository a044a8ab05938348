"""How a base turns texts into terms, and terms into scores: set when it is built, the same for all its pairs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.normalization import normalized

Language = Literal[
    "ar", "bn", "da", "de", "en", "es", "fi", "fr", "hi", "hu", "id", "it", "ja", "ko", "nl", "no", "pt", "ru", "te",
    "th", "tr", "zh",
]  # fmt: skip


class Analysis(BaseModel):
    """The analyzer of a base, and the parameters of its BM25."""

    model_config = ConfigDict(frozen=True)

    language: Language = Field(default="en", description="Of the texts: whose stop words and stems; en is Porter's.")
    k1: float = Field(default=0.9, ge=0, allow_inf_nan=False, description="How much repeating a word counts.")
    b: float = Field(default=0.4, ge=0, le=1, description="How much long texts are held back, 0 to 1.")

    def normalized(self, text: str) -> str:
        """Return a text as it is to be given to the analyzer."""
        return normalized(for_java(text), self.language)


def for_java(text: str) -> str:
    """The text with `?` for lone surrogates, such as stand for bytes of a command line that are no UTF-8."""
    return text.encode(errors="replace").decode()
