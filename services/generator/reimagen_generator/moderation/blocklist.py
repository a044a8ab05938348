"""The operator's list of words and phrases that no prompt and no caption may contain."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from reimagen_common.errors import InvalidArgument
from reimagen_common.normalization import words


class Blocklist:
    """Words and phrases, found as whole words without regard to case, accents and invisible characters."""

    def __init__(self, phrases: Iterable[str]) -> None:
        """Create the list.

        Args:
            phrases: The words and phrases.

        Raises:
            ValueError: A phrase has no letter, digit or symbol.
        """
        self._by_first: defaultdict[str, list[tuple[list[str], str]]] = defaultdict(list)
        for phrase in phrases:
            parts = words(phrase)
            if not parts:
                raise ValueError(f"{phrase!r} has no letter, digit or symbol, so nothing can match it")
            self._by_first[parts[0]].append((parts, phrase))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file with a word or phrase in each line. Blank lines and lines that begin with # are ignored.

        Raises:
            InvalidArgument: The file cannot be read, or a line cannot match anything.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            return cls(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"cannot read {path}: {error}", field="blocklist") from error

    def find(self, text: str) -> str | None:
        """Return the first phrase that a text contains, as the list spells it, or None."""
        found = words(text)
        for start, word in enumerate(found):
            for parts, phrase in self._by_first.get(word, ()):
                if found[start : start + len(parts)] == parts:
                    return phrase
        return None
