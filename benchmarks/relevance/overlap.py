"""The former rule of relevance: the share of the shorter one of prompt and caption that the other one contains."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from benchmarks.relevance import Caption
from reimagen_retriever.index.bm25 import BM25Index

LEAST = 0.6
_DEPTH = 32
"""Number of BM25's first hits that are checked for overlap."""


class Overlap:
    """A search by the share of information, the words' inverse document frequency, that prompt and caption share."""

    def __init__(self, index: BM25Index, captions: Sequence[Caption]) -> None:
        self._index = index
        self._captions = len(captions)
        self._frequencies = Counter(term for caption in captions for term in set(index.terms(caption.text)))

    def find(self, prompt: str, k: int) -> list[str]:
        """Return the ids of the pairs found, best first."""
        in_prompt = set(self._index.terms(prompt))
        found = []
        for hit in self._index.search(prompt, _DEPTH, 0.0, "any"):
            in_caption = set(self._index.terms(hit.pair.caption))
            least = min(self._information(in_prompt), self._information(in_caption))
            if self._information(in_prompt & in_caption) >= LEAST * least:
                found.append(hit.pair.id)
        return found[:k]

    def _information(self, terms: Collection[str]) -> float:
        counts = (self._frequencies[term] for term in terms)
        return sum(math.log1p((self._captions - count + 0.5) / (count + 0.5)) for count in counts)
