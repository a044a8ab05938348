"""Turn texts into terms with Lucene's analyzers."""

from functools import lru_cache
from typing import Any

from reimagen_retriever.index.jvm import in_java, start_jvm
from reimagen_retriever.index.lucene import analyzed
from reimagen_retriever.knowledge_base.analysis import Analysis, Language

# Their tokenizers use context across white space. Those of the other languages never do.
_WORDS_NEED_CONTEXT = ("ja", "ko")
_CACHED_WORDS = 100_000
_LONGEST_CACHED_WORD = 64


@in_java
def lucene_analyzer(language: Language) -> Any:
    """Return Pyserini's Lucene analyzer for the language."""
    start_jvm()
    from pyserini.analysis import get_lucene_analyzer

    if language == "th":
        # Lucene's Thai analyzer needs a Java with a Thai dictionary. `normalized` has already split Thai into letter
        # pairs.
        return get_lucene_analyzer(language="en", stemming=False, stopwords=False)
    return get_lucene_analyzer(language=language)


class Analyzer:
    """An analyzer of texts. Safe to use from many threads.

    The terms of each word are cached: most words of a text have occurred before, and a call into Java costs more than
    the rest of the work. Only ASCII texts are split at white space. In other texts a combining mark may follow a space
    and belong to it, so that a word alone is analyzed differently than within its text.
    """

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._analyzer = lucene_analyzer(analysis.language)
        self._by_word = analysis.language not in _WORDS_NEED_CONTEXT
        self._word = lru_cache(_CACHED_WORDS)(self._in_java)

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in their order. Any punctuation is allowed."""
        text = self._analysis.normalized(text)
        if not (self._by_word and text.isascii()):
            return self._in_java(text)
        terms: list[str] = []
        for word in text.split():
            terms += self._word(word) if len(word) <= _LONGEST_CACHED_WORD else self._in_java(word)
        return terms

    def _in_java(self, text: str) -> list[str]:
        return analyzed(self._analyzer, text)
