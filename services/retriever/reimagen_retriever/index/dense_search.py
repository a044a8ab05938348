"""Dense search: the pairs whose vectors are nearest to the query's, alone or fused with BM25's ranking."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index, Relevance
from reimagen_retriever.index.dense import Dense, DenseIndex, DenseUnion
from reimagen_retriever.index.dense_delta import DenseWithAdded
from reimagen_retriever.index.encoder import Encoder
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.index.fusion import reciprocal_rank_fusion
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.knowledge_base.manifest import Vectors

FUSED = 50
"""Hits of each method that are fused. A pair below this rank in both scores less than the first of either."""
_FEW = 2_000
"""If at most this many pairs pass the filters, all of them are compared with the query instead of filtering the nearest
ones."""
_AT_ONCE = 1_024
_MORE = 8


class DenseSearcher:
    """A searcher of the vectors of a base. Safe to use from many threads.

    Args:
        index: The index of the pairs.
        vectors: The manifest's entry of the vectors.
        folder: The folder of the vectors.
        encoder: The folder of their encoder. Default: the folder that the manifest names.
        added: Size of the delta at the last commit, in bytes.

    Raises:
        DamagedError: The vectors cannot be read.
    """

    def __init__(
        self, index: BM25Index, vectors: Vectors, folder: Path, encoder: Path | None = None, added: int = 0
    ) -> None:
        self._bm25 = index
        built = DenseIndex(folder, vectors.kind, vectors.pairs, vectors.dimension)
        self._own = DenseWithAdded(built, folder.parent / vectors.added, vectors.dimension).at(added)
        self._dense: Dense = self._own
        self._encoder = _LazyEncoder(encoder or Path(vectors.encoder), vectors.encoder_digest)

    def over(self, index: BM25Index, added: int) -> Self:
        """Return the searcher at a newer commit.

        Args:
            index: The index of the pairs at that commit.
            added: Size of the delta at that commit, in bytes.

        Raises:
            DamagedError: The delta cannot be read.
        """
        newer = copy(self)
        newer._bm25 = index
        newer._dense = newer._own = self._own.at(added)
        return newer

    def united(self, others: Sequence[Self], index: BM25Index) -> Self:
        """Return a searcher of these and other vectors of the same encoder, for the pairs of a united index."""
        newer = copy(self)
        newer._bm25 = index
        newer._dense = DenseUnion([each._own for each in (self, *others)])
        return newer

    @property
    def added(self) -> int:
        """The number of pairs that were added after the vectors were made."""
        return self._own.added

    def search(self, query: str, k: int, minimum_cosine: float, filters: Filters = NO_FILTER) -> list[Hit]:
        """Return the pairs whose vectors are nearest to the query's, best first, ties in the byte order of the ids.

        If k pairs pass, k are found: the search widens until it has k hits or has covered all pairs.

        Args:
            query: Free text. It is truncated to the encoder's maximum length.
            k: Maximum number of hits.
            minimum_cosine: Hits with a lower cosine, -1 to 1, are left out.
            filters: The pairs to search.

        Raises:
            InvalidArgument: The encoder is missing or is not the one that made the vectors.
        """
        vector = self.encoder().texts([query], "query")[0]
        hits: dict[str, Hit] = {}
        for rows, cosines in self._widening(vector, k, filters):
            near = rows[cosines >= minimum_cosine]
            for start in range(0, len(near), _AT_ONCE):
                ids = [self._dense.identifier(row) for row in near[start : start + _AT_ONCE]]
                pairs = self._bm25.pairs_of(ids, filters)
                for identifier, cosine in zip(ids, cosines[start:], strict=False):
                    if identifier in pairs:
                        hits[identifier] = Hit(pairs[identifier], float(cosine), cosine=float(cosine))
                best = _best_of_each(hits.values(), filters)
                if len(best) >= k:
                    return best[:k]
            if len(near) < len(rows):
                break
        return _best_of_each(hits.values(), filters)

    def search_hybrid(
        self,
        query: str,
        k: int,
        minimum_score: float,
        relevance: Relevance,
        minimum_cosine: float,
        filters: Filters = NO_FILTER,
    ) -> list[Hit]:
        """Return the pairs that rank best in BM25 and dense search together, by reciprocal rank fusion.

        A pair is relevant if either method considers it relevant.

        Args:
            query: Free text.
            k: Maximum number of hits.
            minimum_score: Hits with a lower fused score (at most 2/61) are left out.
            relevance: See `BM25Index.search`.
            minimum_cosine: See `search`.
            filters: The pairs to search.
        """
        found = (
            self._bm25.search(query, FUSED, 0.0, relevance, filters),
            self.search(query, FUSED, minimum_cosine, filters),
        )
        # The best pair of a group of near-duplicates may differ between the rankings, so groups are ranked.
        by_bm25, by_dense = ({filters.group(hit.pair): hit for hit in hits} for hits in found)
        ranks = [{group: rank for rank, group in enumerate(ranking, start=1)} for ranking in (by_bm25, by_dense)]
        fused = []
        for group, score in islice(reciprocal_rank_fusion([list(by_bm25), list(by_dense)]).items(), k):
            if score < minimum_score:
                break
            bm25_rank, dense_rank = (of.get(group) for of in ranks)
            shown = by_bm25.get(group) or by_dense[group]
            if dense_rank and (bm25_rank is None or dense_rank < bm25_rank):
                shown = by_dense[group]
            fused.append(
                replace(
                    shown,
                    score=score,
                    cosine=by_dense[group].cosine if dense_rank else None,
                    bm25_rank=bm25_rank,
                    dense_rank=dense_rank,
                )
            )
        return fused

    def vectors_of(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return by id the vectors of the pairs that have one."""
        rows = self._dense.rows(ids)
        return {self._dense.identifier(row): vector for row, vector in zip(rows, self._dense.read(rows), strict=True)}

    def encoder(self) -> Encoder:
        """Return the encoder of the base's vectors. It is opened at the first call.

        Raises:
            InvalidArgument: The encoder is missing or is not the one that made the vectors.
        """
        return self._encoder.get()

    def _widening(
        self, vector: NDArray[np.float32], k: int, filters: Filters
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield rows and cosines, best first: the nearest, then ever more, finally all that pass or all rows."""
        n = 4 * k
        yield self._dense.nearest(vector, n)
        if n >= self._dense.pairs:
            return
        few = self._bm25.ids_of(filters, _FEW)
        if few is not None:
            rows = self._dense.rows(few)
            yield self._dense.best(rows, vector, len(rows))
            return
        while n < self._dense.pairs:
            n *= _MORE
            yield self._dense.nearest(vector, n)


class _LazyEncoder:
    """An encoder that is opened on first use."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        self._digest = digest
        self._encoder: Encoder | None = None
        self._lock = threading.Lock()

    def get(self) -> Encoder:
        with self._lock:
            if self._encoder is None:
                try:
                    encoder = Encoder(self._folder)
                except InvalidArgument as error:
                    raise InvalidArgument(
                        f"cannot open the encoder that this base's vectors were made with: {error}. Set "
                        "REIMAGEN_RETRIEVER_ENCODER to its folder",
                        field="method",
                    ) from error
                if encoder.digest != self._digest:
                    raise InvalidArgument(
                        f"{self._folder} is not the encoder that this base's vectors were made with: its digest is "
                        f"{encoder.digest}, expected {self._digest}",
                        field="method",
                    )
                self._encoder = encoder
            return self._encoder


def _best_of_each(hits: Iterable[Hit], filters: Filters) -> list[Hit]:
    """Return the best hit of each group of near-duplicates, best first."""
    best: dict[str, Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.pair.id.encode())):
        best.setdefault(filters.group(hit.pair), hit)
    return list(best.values())
