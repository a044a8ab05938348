"""CLIP's tokens: byte-level pairs, lower case, from `vocab.json` and `merges.txt`, or from `tokenizer.json`."""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

_START, _END, _WORD_ENDS = "<|startoftext|>", "<|endoftext|>", "</w>"
_CONTRACTIONS = re.compile(r"'(?:s|t|re|ve|m|ll|d)")


class ClipTokenizer:
    """A text as numbers, begun and ended, and filled up with ends to one length.

    A text is a text: `<|endoftext|>` in a prompt is letters, not a mark.
    """

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], length: int) -> None:
        """Takes the pieces.

        Args:
            vocabulary: their numbers.
            merges: pairs that are joined, the first one first.
            length: tokens of a text, its start and end among them.

        Raises:
            ValueError: there is no start, or no end.
        """
        for mark in (_START, _END):
            if mark not in vocabulary:
                raise ValueError(f"features: CLIP's vocabulary has no {mark}")
        self.length = length
        self._numbers = vocabulary
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._of_word = lru_cache(10_000)(self._word)

    @classmethod
    def load(cls, folder: Path, length: int) -> "ClipTokenizer":
        """Reads a model's files.

        Raises:
            ValueError: neither pair of files is there, or they are not CLIP's.
        """
        try:
            if (folder / "vocab.json").is_file():
                vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
                lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
                merges: Sequence[Any] = [line for line in lines if line and not line.startswith("#version")]
            else:
                model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
                vocabulary, merges = model["vocab"], model["merges"]
            pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in merges]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"features: cannot read CLIP's tokens in {folder}: {error}") from error
        if not all(len(pair) == 2 for pair in pairs):
            raise ValueError(f"features: the merges in {folder} are not all pairs")
        return cls(vocabulary, [(first, second) for first, second in pairs], length)

    def __call__(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, "batch length"], Int[np.ndarray, " batch"]]:
        """The tokens, and the place of each text's end; what is beyond the length is cut off, the end is kept."""
        ids = np.full((len(texts), self.length), self._numbers[_END], np.int32)
        ends = np.zeros(len(texts), np.int32)
        for row, text in enumerate(texts):
            pieces = [piece for word in _words(text) for piece in self._of_word(word)][: self.length - 2]
            ids[row, : len(pieces) + 1] = [self._numbers[_START], *pieces]
            ends[row] = len(pieces) + 1
        return ids, ends

    def _word(self, word: str) -> tuple[int, ...]:
        letters = [_LETTERS[byte] for byte in word.encode()]
        pieces = [*letters[:-1], letters[-1] + _WORD_ENDS]
        while len(pieces) > 1:
            pair = min(pairwise(pieces), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            joined, place = [], 0
            while place < len(pieces):
                merged = tuple(pieces[place : place + 2]) == pair
                joined.append("".join(pair) if merged else pieces[place])
                place += 2 if merged else 1
            pieces = joined
        return tuple(self._numbers.get(piece, self._numbers[_END]) for piece in pieces)


def _words(text: str) -> Iterator[str]:
    """Runs of letters, single digits, runs of anything else but spaces, and the endings of English contractions."""
    text = unicodedata.normalize("NFC", text).lower()
    place = 0
    while place < len(text):
        contraction = _CONTRACTIONS.match(text, place)
        kind, end = _kind(text[place]), place + 1
        if contraction:
            end = contraction.end()
        elif kind in "LO":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != " ":
            yield text[place:end]
        place = end


def _kind(letter: str) -> str:
    """L for a letter, N for a number, a space, or O for any other."""
    category = unicodedata.category(letter)[0]
    if category in "LN":
        return category
    return " " if letter.isspace() else "O"


def _byte_letters() -> list[str]:
    """A visible letter for each byte, as GPT-2 has it: its own where it is visible, else one from 256 on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


_LETTERS = _byte_letters()
