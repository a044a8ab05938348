"""A frozen text encoder without weights: each word is the sum of random vectors of its character n-grams.

Words that share a stem share most of their n-grams and have similar vectors (as in fastText, arXiv 1607.04606), an
unknown word still has its own vector, and nothing needs to be downloaded. The vectors carry no meaning: the networks
learn what a word looks like, or see it in the neighbors.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from reimagen_generator.text.encoder import TextEmbedding

_NGRAM_SIZES = (3, 4, 5)
_POSITION_SCALE = 0.3


class HashedNgramEncoder:
    """Words as vectors of unit variance, with a weak sinusoidal code of their position."""

    channels = 256
    length = 24

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Return the embeddings of the texts' words; words beyond the 24th are cut off."""
        tokens = np.zeros((len(texts), self.length, self.channels), np.float32)
        mask = np.zeros((len(texts), self.length), bool)
        for row, text in enumerate(texts):
            for position, word in enumerate(re.findall(r"\w+", text.lower())[: self.length]):
                tokens[row, position] = _word_vector(word, self.channels) + _position_vector(position, self.channels)
                mask[row, position] = True
        return TextEmbedding(tokens, mask)


@lru_cache(maxsize=65536)
def _word_vector(word: str, channels: int) -> Float32[np.ndarray, " channels"]:
    marked = f"<{word}>"
    grams = [marked] + [marked[i : i + n] for n in _NGRAM_SIZES for i in range(len(marked) - n + 1)]
    total = np.sum([_hashed_gaussian(gram, channels) for gram in grams], axis=0)
    vector: Float32[np.ndarray, " channels"] = total / np.sqrt(np.mean(total**2))
    return vector


def _hashed_gaussian(gram: str, channels: int) -> Float32[np.ndarray, " channels"]:
    seed = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(channels, np.float32)


def _position_vector(position: int, channels: int) -> Float32[np.ndarray, " channels"]:
    angles = position / 100.0 ** np.linspace(0, 1, channels // 2, dtype=np.float32)
    vector: Float32[np.ndarray, " channels"] = _POSITION_SCALE * np.concatenate([np.sin(angles), np.cos(angles)])
    return vector.astype(np.float32)
