"""Normalize captions, queries and prompts before they are split into words.

Texts that look the same become equal: compatibility forms are unified (NFKC), invisible characters are removed, and
accents are folded unless they make a different letter in the language. Scripts without spaces are split into pairs of
letters, so that words are found inside a text without a dictionary.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import Literal

Script = Literal["chinese", "hangul", "south east asian"]

_OWN_LETTERS = {
    "da": "æøå",
    "de": "äöüß",
    "es": "ñ",
    "fi": "äöå",
    "hu": "áéíóöőúüű",
    "no": "æøå",
    "pt": "ãõç",
    "tr": "çğıöşüi\u0307",
}
"""Letters with marks that are separate letters in the language, or that its analyzer needs for stemming."""
_WITHOUT_DECOMPOSITION = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ł": "l", "Ł": "L",
     "ð": "d", "þ": "th", "ħ": "h", "ı": "i"}
)  # fmt: skip
_INVISIBLE = re.compile(
    # Variation selectors, grapheme joiners, and fillers of Hangul and Arabic, in addition to category Cf.
    "[\ufe00-\ufe0f\U000e0100-\U000e01ef\u034f\u115f\u1160\u3164\uffa0\u17b4\u17b5\u180b-\u180f\u0640]"
)
_EAST_ASIAN = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3005\u3007"
_HANGUL = "\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f"
_SOUTH_EAST_ASIAN = "\u0e00-\u0e4e\u0e80-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
_MARK = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u1056-\u1059\u17b6-\u17d3"
_RUN = re.compile(f"[{_EAST_ASIAN}{_HANGUL}]+|[{_SOUTH_EAST_ASIAN}]+")
_RUN_BESIDE_CHINESE = re.compile(f"[{_HANGUL}]+|[{_SOUTH_EAST_ASIAN}]+")
"""Runs without Chinese letters, which the Japanese analyzer finds in a dictionary and others index one by one."""
_SYLLABLE = re.compile(f"[\u0e40-\u0e44\u0ec0-\u0ec4]?.[{_MARK}]*", re.DOTALL)
_VISIBLE = {"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "So"}
_IRREGULAR_PLURALS = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "mice": "mouse", "geese": "goose",
    "feet": "foot", "teeth": "tooth", "oxen": "ox", "lice": "louse", "wolves": "wolf", "leaves": "leaf",
    "knives": "knife", "wives": "wife", "calves": "calf", "halves": "half", "shelves": "shelf", "loaves": "loaf",
    "thieves": "thief", "elves": "elf", "scarves": "scarf", "hooves": "hoof", "dwarves": "dwarf", "sheaves": "sheaf",
    "cacti": "cactus", "fungi": "fungus", "octopi": "octopus", "pies": "pie", "ties": "tie", "oases": "oasis",
    "snowmen": "snowman", "policemen": "policeman", "firemen": "fireman", "fishermen": "fisherman",
    "grandchildren": "grandchild",
} | {
    f"{word}es": word
    for word in (
        "abacus", "atlas", "bus", "cactus", "campus", "canvas", "chorus", "chrysalis", "circus", "crocus",
        "eucalyptus", "gas", "hibiscus", "hippopotamus", "ibis", "iris", "lens", "lotus", "mantis", "minibus",
        "octopus", "platypus", "portcullis", "rhinoceros", "trellis", "virus", "walrus",
    )
}  # fmt: skip
"""English plurals whose singular Porter's stemmer does not find."""
_ENGLISH_WORD = re.compile(r"[A-Za-z]+")
_WORD_OR_SPACE = re.compile(r"\w+|\W+")
_SHORT_WORD = re.compile(r"\b\w{1,3}\b")
_KEEP_ACCENTS = {
    language: frozenset(words.split())
    for language, words in {
        "es": "más sí también está están había será sería serán té",
        "fr": "à même était étaient étant êtes sûr dés",
        "it": "più perché sarà sarò avrà farà starà tè",
        "pt": "não são até já só há você vocês também está estão será serão terá hão",
    }.items()
}
"""Words that keep their accents: stop words that the analyzer knows only with them, and nouns that would otherwise
become stop words."""


def normalized(text: str, language: str) -> str:
    """Return the text normalized for its language.

    Args:
        text: A caption, a query or a prompt.
        language: The two-letter code of the language.
    """
    text = text.replace("_", " ")  # captions made from file names
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = _INVISIBLE.sub("", text)
        accented = _KEEP_ACCENTS.get(language, frozenset())
        text = "".join(
            word if word.lower() in accented else "".join(_folded(character, language) for character in word)
            for word in _WORD_OR_SPACE.findall(text)
        )
        pattern = _RUN if language in ("zh", "ko") else _RUN_BESIDE_CHINESE
        text = pattern.sub(lambda run: f" {' '.join(pieces(run[0]))} ", text)
    if language == "en":
        text = _ENGLISH_WORD.sub(_singular, text)
    if language == "pt" and not text.isascii():
        text = _SHORT_WORD.sub(_without_tilde, text)
    return text


def pieces(run: str) -> list[str]:
    """Return the overlapping pairs of letters of a run without spaces, plus each letter in East Asian scripts."""
    single = letters(run)
    if len(single) == 1:
        return single
    pairs = [one + other for one, other in pairwise(single)]
    return pairs if script(run) == "south east asian" else pairs + single


def letters(run: str) -> list[str]:
    """Return the letters of a run, each with its marks and its preceding vowel sign."""
    return _SYLLABLE.findall(run)


def script(word: str) -> Script | None:
    """Return the script of a word if the script does not separate words by spaces, else None."""
    if not _RUN.fullmatch(word):
        return None
    if re.match(f"[{_SOUTH_EAST_ASIAN}]", word):
        return "south east asian"
    return "hangul" if re.match(f"[{_HANGUL}]", word) else "chinese"


def words(text: str) -> list[str]:
    """Return the words of a text without case, accents and invisible characters, to compare texts of any language.

    An emoji or another symbol is a word, and so is each letter of a script without spaces.
    """
    text = unicodedata.normalize("NFKC", text.replace("_", " ")).casefold()
    text = unicodedata.normalize("NFKC", "".join(" " if one.isspace() else _shown(one) for one in text))
    text = "".join(_folded(character, "") for character in text)
    text = "".join(_in_word(character) for character in text)
    return _RUN.sub(lambda run: f" {' '.join(letters(run[0]))} ", text).split()


def _shown(character: str) -> str:
    """Return a character, or nothing if it is invisible."""
    hidden = unicodedata.category(character).startswith("C") or _INVISIBLE.match(character)
    return "" if hidden else character


def _in_word(character: str) -> str:
    """Return what a folded character is in a word: itself, nothing if it is an accent, or an end of the word."""
    category = unicodedata.category(character)
    if category == "So":
        return f" {character} "
    if category[0] in "LNM":
        return "" if unicodedata.name(character, "").startswith("COMBINING ") else character
    return " "


def is_visible(text: str) -> bool:
    """Return whether a text has a letter, a digit, or a symbol such as an emoji."""
    return any(unicodedata.category(character) in _VISIBLE for character in _INVISIBLE.sub("", text))


@lru_cache(10_000)
def _folded(character: str, language: str) -> str:
    if character.isascii():
        return character
    if unicodedata.category(character) == "Cf":
        return ""
    if character.lower() in _OWN_LETTERS.get(language, ""):
        return character
    if character in "ёЁ":
        return "е"
    decomposed = unicodedata.normalize("NFD", character)
    if len(decomposed) > 1 and unicodedata.name(decomposed[0], "").startswith(("LATIN", "GREEK")):
        return decomposed[0].translate(_WITHOUT_DECOMPOSITION)
    return character.translate(_WITHOUT_DECOMPOSITION)


def _singular(word: re.Match[str]) -> str:
    return _IRREGULAR_PLURALS.get(word[0].lower(), word[0])


def _without_tilde(word: re.Match[str]) -> str:
    """Fold the marks of a short Portuguese word. The stemmer maps "mãos" to "mao" but does not change "mão"."""
    if word[0].lower() in _KEEP_ACCENTS["pt"]:
        return word[0]
    return "".join(_folded(character, "") for character in word[0])
