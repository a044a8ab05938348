"""Find the neighbors of a pair in its own knowledge base."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.fingerprint import Fingerprint, fingerprint, near_duplicates
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.neighbors.captions import Captions
from reimagen_retriever.search import MAXIMUM_QUERY_CHARACTERS

LONGEST_SEARCH = 1_000
"""Maximum number of hits to read when near-duplicates rank before the neighbors."""
_CACHED_FINGERPRINTS = 100_000


@dataclass(frozen=True)
class Found:
    """A pair with its neighbors, best first."""

    pair: StoredPair
    neighbors: tuple[StoredPair, ...]
    near_duplicates: int
    """Number of pairs that were left out because they show the same image."""
    broken: str = ""
    """Why the image of the pair cannot be read, else ''. Such a pair has no neighbors."""


class Fingerprints:
    """A cache of the fingerprints of a base's images. Safe to use from many threads."""

    def __init__(self, base: KnowledgeBase) -> None:
        self._base = base
        self._cached = lru_cache(_CACHED_FINGERPRINTS)(self._read)

    def of(self, pair: StoredPair) -> Fingerprint | str:
        """Return the fingerprint of a pair's image, or the reason why the image cannot be read."""
        return self._cached(pair)

    def _read(self, pair: StoredPair) -> Fingerprint | str:
        try:
            return fingerprint(self._base.images.read(pair))
        except DamagedError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - Pillow's decoders raise various errors.
            return str(error) or type(error).__name__


class NeighborFinder:
    """A search for the top-k BM25 neighbors of pairs, which excludes the pairs themselves and their near-duplicates.

    Args:
        base: An open knowledge base.
        captions: The captions of the base.
        k: Maximum number of neighbors.
        relevance: See `BM25Index.search`.
        pool: The threads that rank captions and decode images.
    """

    def __init__(
        self, base: KnowledgeBase, captions: Captions, k: int, relevance: Relevance, pool: ThreadPoolExecutor
    ) -> None:
        # Imported here because the commands that serve do not need a compiler.
        from reimagen_retriever.neighbors.ranking import Ranking

        self._ranking = Ranking(captions, base.index, pool)
        self._k = k
        self._relevance = relevance
        self._pool = pool
        self._fingerprints = Fingerprints(base)

    def find(self, pairs: Sequence[StoredPair]) -> list[Found]:
        """Return the neighbors of each pair. The queries are the captions, cut to the service's maximum length."""
        found: dict[str, Found] = {}
        waiting, k = list(pairs), self._k + 2
        while waiting:
            queries = [pair.caption[:MAXIMUM_QUERY_CHARACTERS] for pair in waiting]
            hits = self._ranking.search(queries, k, self._relevance)
            chosen = list(self._pool.map(self._choose, waiting, hits))
            found |= {each.pair.id: each for each in chosen}
            waiting = [
                each.pair
                for each, its_hits in zip(chosen, hits, strict=True)
                if len(its_hits) == k < LONGEST_SEARCH and len(each.neighbors) < self._k and not each.broken
            ]
            k = min(4 * k, LONGEST_SEARCH)
        return [found[pair.id] for pair in pairs]

    def _choose(self, pair: StoredPair, hits: Sequence[Hit]) -> Found:
        own = self._fingerprints.of(pair)
        if isinstance(own, str):
            return Found(pair, (), 0, broken=own)
        neighbors: list[StoredPair] = []
        left_out = 0
        for hit in hits:
            if len(neighbors) == self._k:
                break
            other = self._fingerprints.of(hit.pair)
            if hit.pair.id == pair.id or isinstance(other, str):
                continue
            if near_duplicates(own[None], other[None])[0, 0]:
                left_out += 1
            else:
                neighbors.append(hit.pair)
        return Found(pair, tuple(neighbors), left_out)
