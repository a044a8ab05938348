"""Captions and queries with word frequencies by Zipf's law, the same ones in every run.

A word's probability is inverse to its rank. The words are made up so that no analysis changes them; all engines then
have the same terms.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VOCABULARY = 50_000
CAPTION_WORDS = (5, 15)
QUERY_WORDS = (3, 8)
_AT_ONCE = 100_000


def words() -> list[str]:
    """Return the vocabulary, the most frequent word first; no word ends in an English suffix."""
    rng = random.Random(0)  # noqa: S311
    made: dict[str, None] = {}
    while len(made) < VOCABULARY:
        syllables = (rng.choice("bdfgklmnprtvz") + rng.choice("aiou") for _ in range(rng.randint(2, 4)))
        made["".join(syllables) + rng.choice("bgkvz")] = None
    return list(made)


def texts(count: int, length: tuple[int, int], seed: int) -> Iterator[str]:
    """Yield texts whose number of words is in a range."""
    vocabulary = words()
    probability = 1 / (np.arange(VOCABULARY) + 1)
    bounds = np.cumsum(probability / probability.sum())
    rng = np.random.default_rng(seed)
    for first in range(0, count, _AT_ONCE):
        lengths = rng.integers(length[0], length[1] + 1, min(_AT_ONCE, count - first))
        drawn = np.minimum(np.searchsorted(bounds, rng.random(lengths.sum())), VOCABULARY - 1)
        for numbers in np.split(drawn, np.cumsum(lengths)[:-1]):
            yield " ".join(vocabulary[number] for number in numbers)


def write_captions(path: Path, count: int) -> None:
    """Write captions, one per line."""
    with path.open("w") as file:
        file.writelines(f"{text}\n" for text in texts(count, CAPTION_WORDS, seed=1))


def queries(count: int, seed: int) -> list[str]:
    """Return queries, which are shorter than captions, as prompts are."""
    return list(texts(count, QUERY_WORDS, seed=1_000 + seed))
