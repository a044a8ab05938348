"""Vectors of pairs that were added live, beside the index of those that were there when it was made.

They lie in a file that grows, see `knowledge_base.appended`, as float16. Here they are kept in memory and compared with
a query one by one, until `compact` takes them into the index. A pair that was added has no other vector: neither that
of the index nor one that was added before counts any longer.
"""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.index.dense import DenseIndex, best_of
from reimagen_retriever.knowledge_base.appended import read_appended

_MORE = 4
FLOAT16 = np.dtype("<f2")


class DenseWithAdded:
    """An index and what was added, as one commit has it; safe to use from many threads.

    Its rows are those of the index, then those that were added.

    Args:
        index: Of what was there.
        path: The file of what was added.
        dimension: Of all vectors.
    """

    def __init__(self, index: DenseIndex, path: Path, dimension: int) -> None:
        self._index = index
        self._path = path
        self._size = 0
        self._ids: list[str] = []
        self._vectors = np.empty((0, dimension), np.float32)
        """With room for more: views of later commits share it, and write behind what this one reads."""
        self._row_of: dict[str, int] = {}
        self._current = np.empty(0, np.int64)
        """The rows in it."""
        self._superseded = np.empty(0, np.int64)
        """Of the index, the rows of pairs that were added again; rising."""
        self.pairs: int = index.pairs

    @property
    def added(self) -> int:
        """How many vectors were added that count."""
        return len(self._row_of)

    def at(self, size: int) -> Self:
        """What there is by a commit that tells of so many bytes.

        Raises:
            DamagedError: they are not there.
        """
        if size == self._size:
            return self
        if size < self._size:
            return type(self)(self._index, self._path, self._vectors.shape[1]).at(size)
        newer = copy(self)
        newer._add(size)
        return newer

    def nearest(self, vector: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `DenseIndex`."""
        wanted = n
        while True:
            rows, cosines = self._index.nearest(vector, wanted)
            if not self._ids:
                return rows, cosines
            kept = ~self._is_superseded(rows)
            if kept.sum() >= n or wanted >= self._index.pairs:
                break
            wanted *= _MORE
        # BLAS would share the work among threads, which wait for each other where there are many searches.
        cosines_of_added = np.einsum("nd,d->n", self._vectors[: len(self._ids)], vector)[self._current]
        best = np.argpartition(-cosines_of_added, n)[:n] if n < len(self._current) else slice(None)
        return best_of(
            np.concatenate([rows[kept], self._index.pairs + self._current[best]]),
            np.concatenate([cosines[kept], cosines_of_added[best]]),
            n,
        )

    def best(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `DenseIndex`."""
        return best_of(rows, self.read(rows) @ vector, n)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `DenseIndex`."""
        vectors = np.empty((len(rows), self._vectors.shape[1]), np.float32)
        added = rows >= self._index.pairs
        vectors[~added] = self._index.read(rows[~added])
        vectors[added] = self._vectors[rows[added] - self._index.pairs]
        return vectors

    def identifier(self, row: int) -> str:
        """See `DenseIndex`."""
        return self._index.identifier(row) if row < self._index.pairs else self._ids[row - self._index.pairs]

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """See `DenseIndex`."""
        added = [self._index.pairs + self._row_of[identifier] for identifier in ids if identifier in self._row_of]
        others = self._index.rows([identifier for identifier in ids if identifier not in self._row_of])
        return np.concatenate([np.array(added, np.int64), others])

    def _add(self, size: int) -> None:
        dimension = self._vectors.shape[1]
        records = read_appended(self._path, dimension * FLOAT16.itemsize, self._size, size)
        first, last = len(self._ids), len(self._ids) + len(records)
        ids = [record.id for record in records]
        vectors = np.frombuffer(b"".join(record.data for record in records), FLOAT16).reshape(-1, dimension)
        if last > len(self._vectors):
            grown = np.empty((2 * last, dimension), np.float32)
            grown[:first] = self._vectors[:first]
            self._vectors = grown
        self._vectors[first:last] = vectors
        again = self._index.rows([identifier for identifier in dict.fromkeys(ids) if identifier not in self._row_of])
        self._superseded = np.union1d(self._superseded, again)
        self._ids = [*self._ids, *ids]
        self._row_of = {**self._row_of, **dict(zip(ids, range(first, last), strict=True))}
        self._current = np.fromiter(self._row_of.values(), np.int64, len(self._row_of))
        self._size = size
        self.pairs = self._index.pairs + last

    def _is_superseded(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(self._superseded):
            return np.zeros(len(rows), bool)
        places = np.searchsorted(self._superseded, rows).clip(max=len(self._superseded) - 1)
        return np.asarray(self._superseded[places] == rows)
