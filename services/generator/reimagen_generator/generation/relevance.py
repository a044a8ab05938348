"""Which neighbors have to do with the prompt: what is found is not always what was asked for.

The paper names bad references as its first limitation. A network that draws what its references show draws an
unrelated one as well, and nothing but the texts tells which that is.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from reimagen_common.normalization import normalized

_SHORT: Final = 3
"""Words of so few letters are the same only if no more than a plural's ending differs."""
_PLURAL_ENDINGS: Final = ("", "s", "es", "en")
_SMALL_WORDS: Final = {
    "a", "an", "and", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with",
}  # fmt: skip


class HasCaption(Protocol):
    """A neighbor, in whatever form."""

    @property
    def caption(self) -> str:
        """Its caption."""
        ...


_Neighbor = TypeVar("_Neighbor", bound=HasCaption)


def relevant(prompt: str, neighbors: Sequence[_Neighbor]) -> list[_Neighbor]:
    """Return the neighbors whose captions name something of the prompt that no better one's caption names, in order.

    Of "a fox" and "a plum" for "a fox in the snow" the fox is left; for "a fox and a plum" both are. Those of one text
    stay together. Where no text shares a word with the prompt, as a search by meaning may find them, all of the first
    text stay.

    Args:
        prompt: What is to be drawn.
        neighbors: Best first.
    """
    named = _words(prompt)
    taken, kept = set[str](), set[str]()
    for text in dict.fromkeys(neighbor.caption for neighbor in neighbors):
        said = _words(text)
        found = {word for word in named if any(_same(word, other) for other in said)}
        if found - taken:
            kept.add(text)
        taken |= found
    kept = kept or {neighbor.caption for neighbor in neighbors[:1]}
    return [neighbor for neighbor in neighbors if neighbor.caption in kept]


def _words(text: str) -> set[str]:
    """Return the words of a text: pairs of letters in scripts without spaces, and each symbol such as an emoji."""
    text = normalized(normalized(text, "en"), "zh").lower()
    marked = (character if _belongs_to_a_word(character) else f" {character} " for character in text)
    words = {word for word in "".join(marked).split() if word.isalnum() or not _is_punctuation(word)}
    return words - _SMALL_WORDS


def _belongs_to_a_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _is_punctuation(word: str) -> bool:
    return re.fullmatch(r"[\W_]", word) is not None and unicodedata.category(word) != "So"


def _same(one: str, other: str) -> bool:
    """Whether they may be forms of one word, as fox and foxes, cherry and cherries, wolf and wolves, ox and oxen."""
    short, long = sorted((one, other), key=len)
    if len(short) <= _SHORT:
        return long.startswith(short) and long[len(short) :] in _PLURAL_ENDINGS
    return len(long) - len(short) <= 2 and long.startswith(short[: max(_SHORT, len(short) - 1)])
