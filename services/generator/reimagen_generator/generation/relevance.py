"""Select the neighbors that are relevant to the prompt.

The paper names bad references as its first limitation. A network that draws what its references show also draws an
unrelated reference. Only a comparison of prompt and captions shows which neighbors are unrelated.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from reimagen_common.normalization import normalized

_SHORT: Final = 3
"""Length in letters up to which two words are the same only if they differ by a plural ending at most."""
_PLURAL_ENDINGS: Final = ("", "s", "es", "en")
_SMALL_WORDS: Final = {
    "a", "an", "and", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with",
}  # fmt: skip


class HasCaption(Protocol):
    """An object that has a caption, such as a neighbor."""

    @property
    def caption(self) -> str:
        """The caption."""
        ...


_Neighbor = TypeVar("_Neighbor", bound=HasCaption)


def relevant(prompt: str, neighbors: Sequence[_Neighbor]) -> list[_Neighbor]:
    """Return the neighbors whose captions share a word with the prompt that no better neighbor's caption has.

    For "a fox in the snow", only the first of the captions "a fox" and "a plum" is relevant; for "a fox and a plum",
    both are. Neighbors with the same caption are either all returned or all left out. If no caption shares a word with
    the prompt, which can happen in a dense search, the neighbors with the first caption are returned.

    Args:
        prompt: The text that says what to draw.
        neighbors: The neighbors, best first. The result has the same order.
    """
    prompt_words = _words(prompt)
    covered, relevant_captions = set[str](), set[str]()
    for caption in dict.fromkeys(neighbor.caption for neighbor in neighbors):
        caption_words = _words(caption)
        shared = {word for word in prompt_words if any(_same(word, other) for other in caption_words)}
        if shared - covered:
            relevant_captions.add(caption)
        covered |= shared
    relevant_captions = relevant_captions or {neighbor.caption for neighbor in neighbors[:1]}
    return [neighbor for neighbor in neighbors if neighbor.caption in relevant_captions]


def _words(text: str) -> set[str]:
    """Return the words of a text: pairs of letters in scripts without spaces; a symbol such as an emoji is a word."""
    text = normalized(normalized(text, "en"), "zh").lower()
    marked = (character if _belongs_to_a_word(character) else f" {character} " for character in text)
    words = {word for word in "".join(marked).split() if word.isalnum() or not _is_punctuation(word)}
    return words - _SMALL_WORDS


def _belongs_to_a_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _is_punctuation(word: str) -> bool:
    return re.fullmatch(r"[\W_]", word) is not None and unicodedata.category(word) != "So"


def _same(one: str, other: str) -> bool:
    """Return whether two words may be forms of one: fox, foxes; cherry, cherries; wolf, wolves; ox, oxen."""
    short, long = sorted((one, other), key=len)
    if len(short) <= _SHORT:
        return long.startswith(short) and long[len(short) :] in _PLURAL_ENDINGS
    return len(long) - len(short) <= 2 and long.startswith(short[: max(_SHORT, len(short) - 1)])
