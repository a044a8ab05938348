from functools import cache
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.analysis import Analysis, Analyzer, Language
from reimagen_retriever.index.jvm import java_class

WORDS = ["the panda's", "l'ours", "3.14,15", "Foxes", "can't", "a_b.c:d", "x" * 300, "running", "\x1f", "été"]


@cache
def analyzer(language: Language) -> Analyzer:
    return Analyzer(Analysis(language=language))


@cache
def java_analyzer(language: Language) -> object:
    return Analysis(language=language).analyzer()


@pytest.mark.parametrize("language", get_args(Language))
@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.characters(codec="ascii"), max_size=12) | st.sampled_from(WORDS) | st.text(max_size=5)))
def test_terms_are_those_of_the_whole_text_whatever_is_kept_of_its_words(language: Language, words: list[str]) -> None:
    text = " ".join(words)
    ours = analyzer(language).terms(text)
    analyze = java_class("io.anserini.analysis.AnalyzerUtils").analyze
    assert ours == list(analyze(java_analyzer(language), text).toArray())
