"""The rule that decided before: how much of the shorter of prompt and caption the other one says too."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from benchmarks.relevance import Caption
from reimagen_retriever.index.bm25 import BM25Index

LEAST = 0.6
_DEPTH = 32
"""BM25's first hits, of which those of enough overlap were neighbors."""


class Overlap:
    """Finds by the share of information, the inverse document frequency of words, that prompt and caption share."""

    def __init__(self, index: BM25Index, captions: Sequence[Caption]) -> None:
        self._index = index
        self._captions = len(captions)
        self._frequencies = Counter(term for caption in captions for term in set(index.terms(caption.text)))

    def find(self, prompt: str, k: int) -> list[str]:
        """Return the ids of the pairs found, best first."""
        asked = set(self._index.terms(prompt))
        found = []
        for hit in self._index.search(prompt, _DEPTH, 0.0, "any"):
            said = set(self._index.terms(hit.pair.caption))
            least = min(self._information(asked), self._information(said))
            if self._information(asked & said) >= LEAST * least:
                found.append(hit.pair.id)
        return found[:k]

    def _information(self, terms: Collection[str]) -> float:
        counts = (self._frequencies[term] for term in terms)
        return sum(math.log1p((self._captions - count + 0.5) / (count + 0.5)) for count in counts)
