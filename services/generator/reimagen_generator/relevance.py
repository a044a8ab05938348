"""Which neighbors have to do with the prompt: what is found is not always what was asked for.

The paper names bad references as its first limitation. A network that draws what its references show draws an
unrelated one as well, and nothing but the texts tells which that is.
"""

import re
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

_SHORTEST: Final = 3
"""Letters of a word that counts, and that two forms of one word share at least."""
_SMALL_WORDS: Final = {"and", "for", "from", "the", "with"}


class HasText(Protocol):
    """A neighbor, in whatever form."""

    @property
    def text(self) -> str:
        """Its caption."""
        ...


_Neighbor = TypeVar("_Neighbor", bound=HasText)


def relevant(prompt: str, neighbors: Sequence[_Neighbor]) -> list[_Neighbor]:
    """The neighbors, in their order, whose texts name something of the prompt that no better one's text has named.

    Of "a fox" and "a plum" for "a fox in the snow" the fox is left; for "a fox and a plum" both are. Those of one text
    stay together. Where no text shares a word with the prompt, as a search by meaning may find them, all of the first
    text stay.

    Args:
        prompt: What is to be drawn.
        neighbors: Best first.
    """
    named = _words(prompt)
    taken, kept = set[str](), set[str]()
    for text in dict.fromkeys(neighbor.text for neighbor in neighbors):
        said = _words(text)
        found = {word for word in named if any(_same(word, other) for other in said)}
        if found - taken:
            kept.add(text)
        taken |= found
    kept = kept or {neighbor.text for neighbor in neighbors[:1]}
    return [neighbor for neighbor in neighbors if neighbor.text in kept]


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) >= _SHORTEST} - _SMALL_WORDS


def _same(one: str, other: str) -> bool:
    """Whether they may be forms of one word, as fox and foxes, cherry and cherries, wolf and wolves."""
    short, long = sorted((one, other), key=len)
    return len(long) - len(short) <= 2 and long.startswith(short[: max(_SHORTEST, len(short) - 1)])
