"""A small SentencePiece model with T5's settings."""

import io
from collections.abc import Sequence
from itertools import pairwise

from sentencepiece import SentencePieceTrainer


def train_pieces(lines: Sequence[str], size: int) -> bytes:
    """Return the contents of a `spiece.model` of at most `size` pieces, learned from the lines."""
    pieces = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, *(f"{a} {b}" for a, b in pairwise(lines))]),
        model_writer=pieces,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return pieces.getvalue()
