"""CLIP's tokenizer: lower-case byte-pair encoding, from `vocab.json` and `merges.txt`, or from `tokenizer.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
"""Endings of English contractions, runs of letters, single digits, and runs of other visible characters."""


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
            ValueError: the vocabulary has no start token or no end token, or lacks a merged piece.
        """
        for mark in (_START, _END):
            if mark not in vocabulary:
                raise ValueError(f"features: CLIP's vocabulary has no {mark}")
        self.length = length
        self._start, self._end = vocabulary[_START], vocabulary[_END]
        try:
            model = models.BPE(vocab=vocabulary, merges=list(merges), end_of_word_suffix="</w>", unk_token=_END)
        except Exception as error:
            raise ValueError(f"features: CLIP's vocabulary and merges do not fit together: {error}") from error
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(_WORDS, "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

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
        ids = np.full((len(texts), self.length), self._end, np.int32)
        ends = np.zeros(len(texts), np.int32)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            pieces = encoding.ids[: self.length - 2]
            ids[row, : len(pieces) + 1] = [self._start, *pieces]
            ends[row] = len(pieces) + 1
        return ids, ends
