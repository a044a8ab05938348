"""A text as the numbers of its tokens, by the model's own `spiece.model`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from sentencepiece import SentencePieceProcessor


class T5Tokenizer:
    """Cuts texts into SentencePiece's pieces, upper and lower case kept, each text ended and padded to one length.

    A text is a text: `</s>` or `<extra_id_0>` in a prompt are letters, not marks.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Reads the pieces.

        Args:
            path: a `spiece.model`.
            length: tokens of a text, its end among them.

        Raises:
            ValueError: the file is missing, is none of SentencePiece's, or knows no end or no padding.
        """
        try:
            self._pieces = SentencePieceProcessor(model_proto=path.read_bytes())
        except (OSError, RuntimeError) as error:
            raise ValueError(f"text_encoder: cannot read {path}: {error}") from error
        if self._pieces.pad_id() < 0 or self._pieces.eos_id() < 0:
            raise ValueError(f"text_encoder: {path} has no piece for the end of a text, or none for padding: not T5's")
        self.length = length

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "batch length"], Bool[np.ndarray, "batch length"]]:
        """The tokens, and which of them are no padding; what is beyond the length is cut off, the end is kept."""
        ids = np.full((len(texts), self.length), self._pieces.pad_id(), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, text in enumerate(texts):
            tokens = [*self._pieces.encode(text)[: self.length - 1], self._pieces.eos_id()]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask
