"""How texts become terms, and terms scores: chosen when a base is built, the same for all that is in it."""

from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.normalization import normalized
from reimagen_retriever.index.jvm import in_java, start_jvm

Language = Literal[
    "ar", "bn", "da", "de", "en", "es", "fi", "fr", "hi", "hu", "id", "it", "ja", "ko", "nl", "no", "pt", "ru", "te",
    "th", "tr", "zh",
]  # fmt: skip

# Their tokenizers look beyond white space; those of the others never do.
_WORDS_NEED_CONTEXT = ("ja", "ko")
_KEPT_WORDS = 100_000
_LONGEST_KEPT_WORD = 64


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

        if self.language == "th":
            # Lucene's needs a Java that knows Thai words; `normalized` has made pairs of letters of them.
            return get_lucene_analyzer(language="en", stemming=False, stopwords=False)
        return get_lucene_analyzer(language=self.language)

    def normalized(self, text: str) -> str:
        """Return a text as it is to be given to the analyzer."""
        return normalized(for_java(text), self.language)


class Analyzer:
    """Makes terms of texts; safe to use from many threads.

    Java is asked once for each word: few words of a text are in no text before it, and a call into Java costs more
    than the rest of the work. Only ASCII is taken apart at white space: elsewhere a mark that follows a space belongs
    to it, so that a word is not always what it is in its text.
    """

    @in_java
    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._analyzer = analysis.analyzer()
        from pyserini.analysis import JAnalyzerUtils

        self._analyze = JAnalyzerUtils.analyze
        self._by_word = analysis.language not in _WORDS_NEED_CONTEXT
        self._word = lru_cache(_KEPT_WORDS)(self._in_java)

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in their order; all punctuation is harmless."""
        text = self._analysis.normalized(text)
        if not (self._by_word and text.isascii()):
            return list(self._in_java(text))
        terms: list[str] = []
        for word in text.split():
            terms += self._word(word) if len(word) <= _LONGEST_KEPT_WORD else self._in_java(word)
        return terms

    @in_java
    def _in_java(self, text: str) -> tuple[str, ...]:
        return tuple(self._analyze(self._analyzer, text).toArray())


def for_java(text: str) -> str:
    """The text with `?` for lone surrogates, such as stand for bytes of a command line that are no UTF-8."""
    return text.encode(errors="replace").decode()
