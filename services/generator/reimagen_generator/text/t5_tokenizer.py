"""T5's tokenizer: conversion of texts to token ids by the model's `spiece.model`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from sentencepiece import SentencePieceProcessor


class T5Tokenizer:
    """Splits texts into SentencePiece's pieces, case-sensitively. Each text ends with an end token and is padded.

    `</s>` or `<extra_id_0>` in a prompt are plain text, not special tokens.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Read the pieces.

        Args:
            path: A `spiece.model`.
            length: Number of tokens of a text, including its end token.

        Raises:
            ValueError: The file is missing, is not a SentencePiece model, or has no end or padding piece.
        """
        try:
            self._pieces = SentencePieceProcessor(model_proto=path.read_bytes())
        except (OSError, RuntimeError) as error:
            raise ValueError(f"text_encoder: cannot read {path}: {error}") from error
        if self._pieces.pad_id() < 0 or self._pieces.eos_id() < 0:
            raise ValueError(
                f"text_encoder: {path} must have an end piece and a padding piece, as T5's has; at least one is missing"
            )
        self.length = length

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "batch length"], Bool[np.ndarray, "batch length"]]:
        """Return the token ids and the mask of real tokens; a long text is cut off, but its end token stays."""
        ids = np.full((len(texts), self.length), self._pieces.pad_id(), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, text in enumerate(texts):
            tokens = [*self._pieces.encode(text)[: self.length - 1], self._pieces.eos_id()]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask
