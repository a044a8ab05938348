"""Find the entities that a prompt names, and the main word that a caption must contain for each.

A prompt is a noun phrase with modifiers: "an old steam train at sunset" asks for a train. Function words split a prompt
into phrases. The phrases before the first preposition name what the prompt asks for. A relevant caption contains the
main word of such a phrase, in English the last one: "train". The number of other words in prompt and caption does not
matter.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from reimagen_common.normalization import letters, script
from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.index.grammar import GRAMMARS, TRANSPARENT, Grammar, is_adjective
from reimagen_retriever.index.phrases import Phrase, PhraseReader
from reimagen_retriever.knowledge_base.analysis import Analysis

MAXIMUM_ENTITIES = 32
"""Maximum number of entities of a prompt. Later ones are ignored."""
_CACHED_WORDS = 20_000
Head = tuple[str, ...]
"""Terms that a caption must all contain: a single one, except in scripts without spaces."""


@dataclass(frozen=True)
class Entity:
    """An entity that a prompt names."""

    heads: tuple[Head, ...]
    """The alternatives, one of which a caption must contain to name the entity."""
    terms: tuple[str, ...]
    """The terms of the whole phrase."""
    text: str
    """The phrase, for messages."""
    main_words: tuple[str, ...]
    """The words that the heads are made from, for messages."""

    def is_named_by(self, terms: Collection[str]) -> bool:
        """Return whether a caption with these terms names the entity."""
        return any(set(head) <= set(terms) for head in self.heads)


@dataclass(frozen=True)
class Entities:
    """All entities of a prompt."""

    named: tuple[Entity, ...]
    """The entities that the prompt asks for: several if it joins them, as in "a fox and a plum"."""
    others: tuple[Entity, ...]
    """Objects beside them, and places."""


class EntityReader:
    """A parser of prompts in the language of a base. Safe to use from many threads."""

    def __init__(self, analysis: Analysis, analyzer: Analyzer) -> None:
        self._language = analysis.language
        # Each word is looked up several times, and most words occur in other prompts too.
        self._terms = lru_cache(_CACHED_WORDS)(analyzer.terms)
        self._grammar = GRAMMARS.get(analysis.language, Grammar())
        self._phrases = PhraseReader(analysis.language, self._grammar, lambda word: not self._terms(word))
        self.entities = lru_cache(10_000)(self._entities)

    def _entities(self, prompt: str) -> Entities:
        """Return the entities of a prompt. A prompt of places only asks for these places."""
        phrases = self._phrases.read(prompt)
        if self._grammar.entity_last:
            named = _last_joined(phrases)
        else:
            named = [phrase for phrase in phrases if phrase.role == "named"] or phrases
        # "a photo of a fox" asks for the fox.
        named = [phrase for phrase in named if not phrase.transparent] or named
        others = [phrase for phrase in phrases if phrase not in named and not phrase.transparent]
        return Entities(self._of(named), self._of(others))

    def _of(self, phrases: Sequence[Phrase]) -> tuple[Entity, ...]:
        return tuple(entity for entity in map(self._entity, phrases[:MAXIMUM_ENTITIES]) if entity.heads)

    def _entity(self, phrase: Phrase) -> Entity:
        words = list(phrase.words)
        # "a fox illustration" also asks for the fox, but "a red painting" asks for the painting.
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
        terms = tuple(dict.fromkeys(term for word in phrase.words for term in self._terms(word)))
        return Entity(heads, terms, " ".join(phrase.words), main)

    def _heads(self, word: str) -> tuple[Head, ...]:
        terms = self._terms(word)
        kind = None if self._language == "ja" else script(word)
        pairs = [term for term in terms if len(letters(term)) > 1] if kind else []
        if not pairs:
            return ((terms[-1],),) if terms else ()
        match kind:
            case "chinese":
                # Without spaces, the last word has either two letters or one.
                return ((pairs[-1],), (terms[-1],))
            case "hangul":
                return (tuple(dict.fromkeys(pairs)),)
            case _:
                return ((pairs[0],),)


def _last_joined(phrases: Sequence[Phrase]) -> Sequence[Phrase]:
    """Return the last phrase and the phrases that are joined to it."""
    first = len(phrases) - 1
    while first > 0 and phrases[first].joined:
        first -= 1
    return phrases[max(first, 0) :]
