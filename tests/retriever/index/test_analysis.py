from functools import cache
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.analysis import Analyzer, lucene_analyzer
from reimagen_retriever.index.jvm import java_class
from reimagen_retriever.knowledge_base.analysis import Analysis, Language

WORDS = ["the panda's", "l'ours", "3.14,15", "Foxes", "can't", "a_b.c:d", "x" * 300, "running", "\x1f", "été"]


@cache
def analyzer(language: Language) -> Analyzer:
    return Analyzer(Analysis(language=language))


@cache
def java_analyzer(language: Language) -> object:
    return lucene_analyzer(language)


@pytest.mark.parametrize("language", get_args(Language))
@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.characters(codec="ascii"), max_size=12) | st.sampled_from(WORDS) | st.text(max_size=5)))
def test_terms_equal_lucenes_of_the_whole_text(language: Language, words: list[str]) -> None:
    text = " ".join(words)
    ours = analyzer(language).terms(text)
    analyze = java_class("io.anserini.analysis.AnalyzerUtils").analyze
    normalized = Analysis(language=language).normalized(text)
    assert ours == list(analyze(java_analyzer(language), normalized).toArray())


@pytest.mark.parametrize(
    ("language", "query", "caption"),
    [
        ("en", "jalapeno", "two jalape\u0303n\u0303os"),
        ("en", "Malmo", "MALMÖ"),
        ("en", "rain\u200bcoat", "a rain\u00adcoat"),
        ("en", "ＴＶ", "a tv"),
        ("en", "five loaves", "a loaf of bread"),
        ("en", "two walruses", "a walrus"),
        ("en", "🐙", "🐙\ufe0f"),
        ("en", "steam engine", "steam_engine"),
        ("en", "새", "나무 위의 새"),
        ("de", "müdes Kätzchen", "mu\u0308des Ka\u0308tzchen"),
        ("fr", "tele", "une télé"),
        ("pt", "leões", "leão"),
        ("pt", "pães", "pão"),
        ("pt", "CÃO", "dois ca\u0303es"),
        ("zh", "虎", "一只老虎在睡觉"),
        ("zh", "老虎", "一只老虎在睡觉"),
        ("ko", "개", "흰개가 잔다"),
        ("ko", "고양이", "고양이는 잔다"),
        ("th", "เสือ", "รูปเสือสีขาว"),
        ("en", "เสือ", "รูปเสือสีขาว"),
        ("ja", "犬", "白い犬が寝る"),
        ("ru", "ежик", "ёжик"),
    ],
)
def test_a_word_is_found_in_another_form(language: Language, query: str, caption: str) -> None:
    asked, said = analyzer(language).terms(query), analyzer(language).terms(caption)
    assert asked
    assert set(asked) - {"five", "two"} <= set(said)


@pytest.mark.parametrize(
    ("language", "one", "other"), [("es", "año", "ano"), ("fi", "sää", "saa"), ("tr", "açı", "acı"), ("ja", "が", "か")]
)
def test_distinct_letters_stay_distinct(language: Language, one: str, other: str) -> None:
    assert Analysis(language=language).normalized(one) != Analysis(language=language).normalized(other)


@pytest.mark.parametrize(
    ("language", "word"), [("pt", "não"), ("pt", "SÃO"), ("pt", "até"), ("es", "más"), ("fr", "même"), ("it", "più")]
)
def test_stop_words_with_accents_stay_stop_words(language: Language, word: str) -> None:
    assert analyzer(language).terms(f"{word} pan") == analyzer(language).terms("pan")


@pytest.mark.parametrize(("language", "noun"), [("es", "té"), ("fr", "dés"), ("it", "tè"), ("pt", "pão")])
def test_nouns_that_equal_stop_words_without_accents_are_kept(language: Language, noun: str) -> None:
    assert analyzer(language).terms(noun)
