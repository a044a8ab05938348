"""CLIP's tokenizer: lower-case byte-pair encoding, from `vocab.json` and `merges.txt`, or from `tokenizer.json`."""

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
    """Tokenizer that adds start and end tokens and pads with end tokens to one length.

    It does not interpret special tokens in a text: `<|endoftext|>` in a prompt is encoded letter by letter.
    """

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], length: int) -> None:
        """Set up the tokenizer.

        Args:
            vocabulary: id of each token.
            merges: pairs of pieces to join, in order of priority.
            length: number of tokens per text, including start and end.

        Raises:
            ValueError: the vocabulary has no start token or no end token.
        """
        for mark in (_START, _END):
            if mark not in vocabulary:
                raise ValueError(f"features: CLIP's vocabulary has no {mark}")
        self.length = length
        self._numbers = vocabulary
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._cached_word = lru_cache(10_000)(self._word)

    @classmethod
    def load(cls, folder: Path, length: int) -> "ClipTokenizer":
        """Read a model's tokenizer files.

        Raises:
            ValueError: neither set of files is there, or the files are not CLIP's.
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
            raise ValueError(f"features: cannot read CLIP's tokenizer files in {folder}: {error}") from error
        if not all(len(pair) == 2 for pair in pairs):
            raise ValueError(f"features: the merges in {folder} are not all pairs")
        return cls(vocabulary, [(first, second) for first, second in pairs], length)

    def __call__(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, "batch length"], Int[np.ndarray, " batch"]]:
        """Return the token ids and the index of each end token; long texts are truncated before the end token."""
        ids = np.full((len(texts), self.length), self._numbers[_END], np.int32)
        ends = np.zeros(len(texts), np.int32)
        for row, text in enumerate(texts):
            pieces = [piece for word in _words(text) for piece in self._cached_word(word)][: self.length - 2]
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
            joined, index = [], 0
            while index < len(pieces):
                merged = tuple(pieces[index : index + 2]) == pair
                joined.append("".join(pair) if merged else pieces[index])
                index += 2 if merged else 1
            pieces = joined
        return tuple(self._numbers.get(piece, self._numbers[_END]) for piece in pieces)


def _words(text: str) -> Iterator[str]:
    """Yield runs of letters, single digits, runs of other visible characters, and endings of English contractions."""
    text = unicodedata.normalize("NFC", text).lower()
    index = 0
    while index < len(text):
        contraction = _CONTRACTIONS.match(text, index)
        kind, end = _kind(text[index]), index + 1
        if contraction:
            end = contraction.end()
        elif kind in "LO":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != " ":
            yield text[index:end]
        index = end


def _kind(letter: str) -> str:
    """Return L for a letter, N for a number, a space for white space, or O for any other character."""
    category = unicodedata.category(letter)[0]
    if category in "LN":
        return category
    return " " if letter.isspace() else "O"


def _byte_letters() -> list[str]:
    """Return a visible character for each byte, as GPT-2 does: its own character if visible, else one from 256 on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


_LETTERS = _byte_letters()
