"""The list of words and phrases that are not allowed."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_common.normalization import words
from reimagen_generator.moderation.blocklist import Blocklist

PHRASES = ["Bloody", "café noir", "zażółć", "🔫", "色情", "кровь"]
# Zero-width characters, joiners, soft hyphens, fillers, selectors, tags, controls, and overlays that never compose.
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e\u3164\ufe0f\U000e0061\x08\u0335\u0338"


@st.composite
def disguised(draw: st.DrawFn, phrase: str) -> str:
    """Return a phrase in other case, forms and accents, with invisible characters, and with other spaces."""
    one_of = [str.upper, str.title, str.swapcase, str.lower]
    phrase = unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD", "NFKD"])), draw(st.sampled_from(one_of))(phrase))
    parts = []
    for character in phrase:
        wide = chr(ord(character) + 0xFEE0) if "!" <= character <= "~" and draw(st.booleans()) else character
        accent = draw(st.sampled_from(["", "\u0301", "\u0323"])) if "LATIN" in unicodedata.name(character, "") else ""
        space = draw(st.sampled_from([" ", "\n", "_", "-", "\u00a0", " ... "])) if character == " " else wide
        parts += [space, draw(st.text(INVISIBLE, max_size=2)), accent]
    return "".join(parts)


@given(st.data(), st.sampled_from(PHRASES))
def test_no_spelling_that_looks_the_same_evades_it(data: st.DataObject, phrase: str) -> None:
    before, after = data.draw(st.sampled_from([("", ""), ("a ", " knight"), ("(", ")"), ("red, ", "!")]))
    assert Blocklist(PHRASES).find(f"{before}{data.draw(disguised(phrase))}{after}") == phrase


@given(st.text("abc", min_size=1, max_size=4), st.text("abc ", max_size=30))
def test_only_whole_words_are_found(phrase: str, text: str) -> None:
    assert (Blocklist([phrase]).find(text) is not None) == (phrase in text.split())


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), st.lists(st.sampled_from("abc"), max_size=8))
def test_the_words_of_a_phrase_stand_side_by_side(phrase: list[str], text: list[str]) -> None:
    stands = any(text[start : start + len(phrase)] == phrase for start in range(len(text)))
    assert (Blocklist([" ".join(phrase)]).find(" ".join(text)) is not None) == stands


@given(st.text())
def test_words_are_final(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


def test_scripts_without_spaces_and_vowel_signs() -> None:
    blocklist = Blocklist(["色情", "की"])
    assert blocklist.find("一張色情圖片") == "色情"
    assert blocklist.find("色々な情") is None
    assert blocklist.find("कि") is None


def test_a_file_has_comments_and_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "blocklist.txt"
    file.write_text("# not allowed\n\n  gore  \n#🔫\nsevered head\n", encoding="utf-8-sig")
    blocklist = Blocklist.read(file)
    found = [blocklist.find(text) for text in ("Gore!", "a severed  head", "not allowed", "🔫", "categories")]
    assert found == ["gore", "severed head", None, None, None]


@pytest.mark.parametrize("content", [b"gore\n...\n", b"\xff\xfe\xff"])
def test_a_bad_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "blocklist.txt"
    file.write_bytes(content)
    for path in (file, tmp_path / "missing", tmp_path):
        with pytest.raises(InvalidArgument, match=f"blocklist: cannot read {path}"):
            Blocklist.read(path)
