import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.knowledge_base.pair import (
    MAXIMUM_ID_BYTES,
    MAXIMUM_TEXT_CHARACTERS,
    RejectedError,
    StoredPair,
    checked_caption,
    checked_id,
    checked_note,
)


@settings(deadline=None)
@given(st.text())
def test_a_checked_caption_is_one_clean_line_or_refused(text: str) -> None:
    try:
        checked = checked_caption(text)
    except RejectedError:
        return
    assert checked == " ".join(text.split())
    assert checked.encode()
    assert checked.isprintable() or all(ord(character) > 127 for character in checked if not character.isprintable())
    assert checked_caption(checked) == checked


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=200))
def test_words_survive_the_check(text: str) -> None:
    words = text.split()
    if any(character.isalnum() for character in text):
        assert checked_caption(text).split() == words


@pytest.mark.parametrize("text", ["\U0001f41d", "\u2602\ufe0f", "\U0001f469\u200d\U0001f33e", "\U0001f1f3\U0001f1ff"])
def test_a_caption_may_be_an_emoji(text: str) -> None:
    assert checked_caption(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "   \n\t", "!?...", "\u3000", "\u200b\ufe0f", "\u3164"])
def test_a_caption_without_a_word_is_empty(text: str) -> None:
    with pytest.raises(RejectedError, match="empty caption"):
        checked_caption(text)


@pytest.mark.parametrize("text", ["a red\x00panda", "a red \ud83d panda", "a\x7fb"])
def test_control_characters_are_refused_by_code_point(text: str) -> None:
    with pytest.raises(RejectedError, match=r"caption holds U\+(0000|D83D|007F)"):
        checked_caption(text)


def test_the_length_limits_are_exact() -> None:
    assert checked_caption("x" * MAXIMUM_TEXT_CHARACTERS)
    with pytest.raises(RejectedError, match="10,001 characters, at most 10,000"):
        checked_caption("x" * (MAXIMUM_TEXT_CHARACTERS + 1))
    assert checked_id("é" * (MAXIMUM_ID_BYTES // 2))
    with pytest.raises(RejectedError, match="bad id"):
        checked_id("é" * (MAXIMUM_ID_BYTES // 2) + "x")


@pytest.mark.parametrize("identifier", ["", " ", "\u3000", "a\nb", "a\tb", "a\x00", "\x85", "\ud800"])
def test_an_empty_id_is_refused(identifier: str) -> None:
    with pytest.raises(RejectedError, match="bad"):
        checked_id(identifier)


@pytest.mark.parametrize("identifier", ["3.15\u202fPM", "v\xa013", "猫\u3000写真", "my  cat", " a", "trailing "])
def test_all_kinds_of_spaces_are_legal_in_an_id(identifier: str) -> None:
    assert checked_id(identifier) == identifier


def test_an_empty_source_or_license_means_unknown() -> None:
    assert checked_note("license", "  ") == ""
    with pytest.raises(RejectedError, match="license too long"):
        checked_note("license", "x" * 2_001)


@settings(deadline=None)
@given(
    st.text(alphabet=st.characters(codec="utf-8")),
    st.integers(min_value=0, max_value=2**63),
    st.integers(min_value=1, max_value=2**32),
)
def test_a_stored_pair_survives_json(text: str, offset: int, length: int) -> None:
    pair = StoredPair(
        id=text,
        caption=text,
        shard="00000.tar",
        offset=offset,
        length=length,
        sha256="0" * 64,
        media_type="image/png",
        width=1,
        height=1,
    )
    assert StoredPair.model_validate_json(pair.model_dump_json()) == pair
