"""Turning texts into terms with Lucene's analyzers."""

from functools import lru_cache
from typing import Any

from reimagen_retriever.index.jvm import in_java, start_jvm
from reimagen_retriever.knowledge_base.analysis import Analysis, Language

# Their tokenizers look beyond white space; those of the others never do.
_WORDS_NEED_CONTEXT = ("ja", "ko")
_KEPT_WORDS = 100_000
_LONGEST_KEPT_WORD = 64


@in_java
def lucene_analyzer(language: Language) -> Any:
    """Pyserini's Lucene analyzer for the language."""
    start_jvm()
    from pyserini.analysis import get_lucene_analyzer

    if language == "th":
        # Lucene's needs a Java that knows Thai words; `normalized` has made pairs of letters of them.
        return get_lucene_analyzer(language="en", stemming=False, stopwords=False)
    return get_lucene_analyzer(language=language)


class Analyzer:
    """Makes terms of texts; safe to use from many threads.

    Java is asked once for each word: few words of a text are in no text before it, and a call into Java costs more
    than the rest of the work. Only ASCII is taken apart at white space: elsewhere a mark that follows a space belongs
    to it, so that a word is not always what it is in its text.
    """

    @in_java
    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._analyzer = lucene_analyzer(analysis.language)
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
