"""How texts become terms, and terms scores: chosen when a base is built, the same for all that is in it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_retriever.index.jvm import in_java, start_jvm

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

    @in_java
    def analyzer(self) -> Any:
        """Pyserini's Lucene analyzer for the language."""
        start_jvm()
        from pyserini.analysis import get_lucene_analyzer

        return get_lucene_analyzer(language=self.language)
