"""Split a prompt into phrases at its function words, and determine the role of each phrase."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reimagen_retriever.index.grammar import ENGLISH, ENGLISH_PHRASES, TRANSPARENT, Grammar, is_adjective, is_predicate
from reimagen_retriever.knowledge_base.analysis import Language

Role = Literal["named", "beside", "place"]
"""The role of a phrase: an entity that the prompt asks for, an object beside it, or a place or other description."""

_MARKS = r",;:!?()\[\]{}|\"“”«»、。，！？；：（）…–—"
_TOKEN = re.compile(rf"[{_MARKS}]|\.(?=\s|$)|\s[-/](?=\s)|(?:[^\s{_MARKS}.]|\.(?!\s|$))+")
_PUNCTUATION = re.compile(rf"[{_MARKS}./-]")
_ENGLISH_PHRASE = re.compile(rf"\b({'|'.join(ENGLISH_PHRASES)})\b", re.IGNORECASE)
_ELISION = re.compile(r"(?<=\w)['’](?=\w)")
_CHINESE_FUNCTION_WORDS = re.compile("([的和与跟及])")
_JAPANESE_FUNCTION_WORDS = re.compile("(の|(?<=[\u4e00-\u9fff])と(?=[\u30a0-\u30ff\u4e00-\u9fff]))")


@dataclass
class Phrase:
    """Adjacent words of a prompt that belong together."""

    role: Role
    words: list[str] = field(default_factory=list)
    transparent: bool = False
    """Whether the phrase is a word for an image or an amount of what follows: "a photo of"."""
    joined: bool = False
    """Whether the phrase follows a word such as "and"."""
    singular: bool = False
    """Whether the phrase began with "a" or "an"."""


class PhraseReader:
    """A parser of prompts of one language into phrases.

    Args:
        language: The language of the prompts.
        grammar: The grammar of the language.
        is_stop_word: A function that returns whether the language's analyzer drops a word.
    """

    def __init__(self, language: Language, grammar: Grammar, is_stop_word: Callable[[str], bool]) -> None:
        self._language = language
        self._grammar = grammar
        self._is_stop_word = is_stop_word

    def read(self, prompt: str) -> list[Phrase]:
        """Return the phrases of a prompt, in their order."""
        return _PromptParser(self._grammar, self._is_stop_word, self._tokens(prompt)).phrases()

    def _tokens(self, prompt: str) -> list[str]:
        match self._language:
            case "en":
                prompt = _ENGLISH_PHRASE.sub(lambda found: ENGLISH_PHRASES[found[0].lower()], prompt)
            case "fr" | "it":
                prompt = _ELISION.sub(" ", prompt)
            case "ja":
                prompt = _JAPANESE_FUNCTION_WORDS.sub(r" \1 ", prompt)
        if self._language != "ja":
            prompt = _CHINESE_FUNCTION_WORDS.sub(r" \1 ", prompt)
        return [token.strip() for token in _TOKEN.findall(prompt)]


class _PromptParser:
    """A parser of one prompt, word by word."""

    def __init__(self, grammar: Grammar, is_stop_word: Callable[[str], bool], tokens: Sequence[str]) -> None:
        self._grammar = grammar
        self._english = grammar is ENGLISH
        self._is_stop_word = is_stop_word
        self._tokens = tokens
        self._words = [token.lower() for token in tokens]
        self._phrase = Phrase("named")
        self._found: list[Phrase] = []
        self._fresh = True
        """Whether only function words have occurred since the start, a punctuation mark, or a word such as "and"."""

    def phrases(self) -> list[Phrase]:
        for place, word in enumerate(self._words):
            if _is_punctuation(word):
                self._punctuation(place)
            elif word in self._grammar.joins:
                self._join(place)
            elif word in self._grammar.of:
                self._phrase.transparent = bool(self._phrase.words) and self._phrase.words[-1].lower() in TRANSPARENT
                self._close(self._phrase.role, fresh=True)
            elif word in self._grammar.articles or _is_number(word):
                self._article(place)
            elif word in self._grammar.beside:
                self._close("beside")
            elif word in self._grammar.prepositions or (word in self._grammar.verbs and self._phrase.words):
                self._close("place")
            elif self._is_stop_word(word):
                self._close(self._phrase.role if self._fresh else "place", fresh=self._fresh)
            elif self._is_predicate(place):
                self._close("place")
            else:
                self._phrase.words.append(self._tokens[place])
                self._fresh = False
        self._close("place")
        return self._found

    def _close(self, following: Role, *, joined: bool = False, fresh: bool = False) -> None:
        if self._phrase.words:
            self._found.append(self._phrase)
        self._phrase = Phrase(following, joined=joined)
        self._fresh = fresh

    def _punctuation(self, place: int) -> None:
        if self._describes_what_follows(place):
            return
        after_places = self._phrase.role == "place" and bool(self._phrase.words) and self._only_places()
        begins = self._following(place) in self._grammar.articles or self._lists(place + 1)
        nothing_yet = not self._found and not self._phrase.words
        self._close("named" if after_places or begins or nothing_yet else "place", fresh=True)

    def _join(self, place: int) -> None:
        if not self._describes_what_follows(place):
            self._close(self._phrase.role, joined=True, fresh=True)

    def _article(self, place: int) -> None:
        # "at night a fox", but not "in a forest".
        after_preposition = place > 0 and self._words[place - 1] in self._grammar.prepositions
        begins = self._phrase.role == "place" and self._only_places() and not self._fresh and not after_preposition
        self._close("named" if begins else self._phrase.role, joined=self._phrase.joined, fresh=self._fresh)
        self._phrase.singular = self._words[place] in ("a", "an")

    def _describes_what_follows(self, place: int) -> bool:
        """Return whether adjectives continue after a comma or "and": "a small, red car", "a black and white cat"."""
        words = self._phrase.words
        adjective = self._english and bool(words) and is_adjective(words[-1].lower())
        return adjective and self._following(place) not in self._grammar.articles

    def _is_predicate(self, place: int) -> bool:
        """Return whether a word is a predicate: "a dog running in a park", "a dog chases a cat"."""
        if not (self._english and self._phrase.words):
            return False
        after = self._following(place)
        return is_predicate(
            self._words[place],
            before=self._phrase.words[-1].lower(),
            after=after,
            singular=self._phrase.singular,
            ends=self._ends_phrase(after),
        )

    def _ends_phrase(self, word: str) -> bool:
        grammar = self._grammar
        words = (grammar.articles, grammar.prepositions, grammar.verbs, grammar.beside, grammar.joins, grammar.of)
        listed = any(word in each for each in words)
        return not word or listed or _is_punctuation(word) or self._is_stop_word(word)

    def _lists(self, start: int) -> bool:
        """Return whether the following words continue a list such as "apples, pears and plums"."""
        grammar = self._grammar
        for word in self._words[start:]:
            if word in grammar.joins:
                return True
            if any(word in each for each in (grammar.prepositions, grammar.verbs, grammar.beside, grammar.articles)):
                return False
        return False

    def _only_places(self) -> bool:
        return all(phrase.role == "place" for phrase in self._found)

    def _following(self, place: int) -> str:
        return self._words[place + 1] if place + 1 < len(self._words) else ""


def _is_punctuation(token: str) -> bool:
    return _PUNCTUATION.fullmatch(token) is not None


def _is_number(token: str) -> bool:
    """Return whether a token has digits and no letters: "2", "-1", "#3", "16:9"."""
    return any(map(str.isdecimal, token)) and not any(map(str.isalpha, token))
