"""The things that a prompt names, and the word of each that a caption must have to show it.

A prompt is a noun phrase and what is said of it: "an old steam train at sunset" asks for a train. Function words cut a
prompt into phrases, and what comes before the first preposition is what it asks for. Of such a phrase the main word
must be in a caption, in English the last one: "train". How many other words prompt and caption have does not count.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from reimagen_common.normalization import letters, script
from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.index.grammar import GRAMMARS, TRANSPARENT, Grammar, is_adjective
from reimagen_retriever.index.phrases import Phrase, PhraseReader
from reimagen_retriever.knowledge_base.analysis import Analysis

MAXIMUM_THINGS = 32
"""Of a prompt; what it names after them is not looked at."""
Head = tuple[str, ...]
"""Terms that a caption must all have: one, but for scripts without spaces."""


@dataclass(frozen=True)
class Thing:
    """A thing that a prompt names."""

    heads: tuple[Head, ...]
    """One of these must be in a caption that names the thing."""
    terms: tuple[str, ...]
    """Of the whole phrase."""
    text: str
    """The phrase, for messages."""
    main_words: tuple[str, ...]
    """Of the phrase, for messages: those that the heads are of."""

    def is_named_by(self, terms: Collection[str]) -> bool:
        """Return whether a caption that has these terms names the thing."""
        return any(set(head) <= set(terms) for head in self.heads)


@dataclass(frozen=True)
class Things:
    """What a prompt is about."""

    named: tuple[Thing, ...]
    """What it asks for: more than one where it joins them, as in "a fox and a plum"."""
    others: tuple[Thing, ...]
    """What stands beside them, and places."""


class ThingReader:
    """Reads prompts in a base's language; safe to use from many threads."""

    def __init__(self, analysis: Analysis, analyzer: Analyzer) -> None:
        self._language = analysis.language
        self._analyzer = analyzer
        self._grammar = GRAMMARS.get(analysis.language, Grammar())
        self._phrases = PhraseReader(analysis.language, self._grammar, lambda word: not analyzer.terms(word))
        self.things = lru_cache(10_000)(self._things)

    def _things(self, prompt: str) -> Things:
        """Return the things that a prompt names; where it names nothing but places, those are what it asks for."""
        phrases = self._phrases.read(prompt)
        if self._grammar.thing_last:
            named = _last_joined(phrases)
        else:
            named = [phrase for phrase in phrases if phrase.role == "named"] or phrases
        # "a photo of a fox" asks for the fox.
        named = [phrase for phrase in named if not phrase.transparent] or named
        others = [phrase for phrase in phrases if phrase not in named and not phrase.transparent]
        return Things(self._of(named), self._of(others))

    def _of(self, phrases: Sequence[Phrase]) -> tuple[Thing, ...]:
        return tuple(thing for thing in map(self._thing, phrases[:MAXIMUM_THINGS]) if thing.heads)

    def _thing(self, phrase: Phrase) -> Thing:
        words = list(phrase.words)
        # So does "a fox illustration"; "a red painting" does not.
        while len(words) > 1 and words[-1].lower() in TRANSPARENT and not is_adjective(words[-2].lower()):
            words.pop()
        main: tuple[str, ...]
        match self._grammar.head:
            case "last":
                main = (words[-1],)
            case "first":
                main = (words[0],)
            case "either":
                main = tuple(dict.fromkeys((words[0], words[-1])))
        heads = tuple(dict.fromkeys(head for word in main for head in self._heads(word)))
        terms = tuple(dict.fromkeys(term for word in phrase.words for term in self._analyzer.terms(word)))
        return Thing(heads, terms, " ".join(phrase.words), main)

    def _heads(self, word: str) -> tuple[Head, ...]:
        terms = self._analyzer.terms(word)
        kind = None if self._language == "ja" else script(word)
        pairs = [term for term in terms if len(letters(term)) > 1] if kind else []
        if not pairs:
            return ((terms[-1],),) if terms else ()
        match kind:
            case "chinese":
                # The last word of a text without spaces has two letters, or one.
                return ((pairs[-1],), (terms[-1],))
            case "hangul":
                return (tuple(dict.fromkeys(pairs)),)
            case _:
                return ((pairs[0],),)


def _last_joined(phrases: Sequence[Phrase]) -> Sequence[Phrase]:
    """Return the last phrase and those that it is joined to."""
    first = len(phrases) - 1
    while first > 0 and phrases[first].joined:
        first -= 1
    return phrases[max(first, 0) :]
