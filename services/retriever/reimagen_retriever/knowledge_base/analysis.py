"""Text analysis and BM25 parameters of a base; set by the build, and the same for all its pairs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.normalization import normalized

Language = Literal[
    "ar", "bn", "da", "de", "en", "es", "fi", "fr", "hi", "hu", "id", "it", "ja", "ko", "nl", "no", "pt", "ru", "te",
    "th", "tr", "zh",
]  # fmt: skip


class Analysis(BaseModel):
    """The analyzer and the BM25 parameters of a base."""

    model_config = ConfigDict(frozen=True)

    language: Language = Field(
        default="en", description="Language of the captions: its stop words and stemmer; en is Porter's."
    )
    k1: float = Field(default=0.9, ge=0, allow_inf_nan=False, description="BM25 k1: weight of repeated words.")
    b: float = Field(default=0.4, ge=0, le=1, description="BM25 b: penalty on long captions, 0 to 1.")

    def normalized(self, text: str) -> str:
        """Return the text in the form that the analyzer expects."""
        return normalized(for_java(text), self.language)


def for_java(text: str) -> str:
    """Return the text with `?` for lone surrogates, which Python uses for non-UTF-8 bytes of a command line."""
    return text.encode(errors="replace").decode()
