"""The delta: vectors of pairs that were added after the index was built.

They are stored as float16 in an append-only file, see `knowledge_base.appended`. In memory they are compared with each
query one by one, until `compact` moves them into the index. The vector that was added last for a pair replaces its
earlier ones, in the index and in the delta.
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
    """An index and its delta, at one commit. Safe to use from many threads.

    The rows are those of the index, followed by those of the delta.

    Args:
        index: The index.
        path: The file of the delta.
        dimension: Dimension of all vectors.
    """

    def __init__(self, index: DenseIndex, path: Path, dimension: int) -> None:
        self._index = index
        self._path = path
        self._size = 0
        self._ids: list[str] = []
        self._vectors = np.empty((0, dimension), np.float32)
        """The delta, with spare capacity. Views of later commits share it and write behind the rows of this one."""
        self._row_of: dict[str, int] = {}
        self._current = np.empty(0, np.int64)
        """The rows of `_vectors` that have not been replaced."""
        self._superseded = np.empty(0, np.int64)
        """The rows of the index whose pairs were added again, ascending."""
        self.pairs: int = index.pairs

    @property
    def added(self) -> int:
        """The number of pairs with a vector in the delta."""
        return len(self._row_of)

    def at(self, size: int) -> Self:
        """Return the view at a commit that includes `size` bytes of the delta file.

        Raises:
            DamagedError: The file is shorter or cannot be read.
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
        candidates = n
        while True:
            rows, cosines = self._index.nearest(vector, candidates)
            if not self._ids:
                return rows, cosines
            valid = ~self._is_superseded(rows)
            if valid.sum() >= n or candidates >= self._index.pairs:
                break
            candidates *= _MORE
        # Not `@`: BLAS would use several threads, which contend for the cores when there are many searches.
        cosines_of_added = np.einsum("nd,d->n", self._vectors[: len(self._ids)], vector)[self._current]
        best = np.argpartition(-cosines_of_added, n)[:n] if n < len(self._current) else slice(None)
        return best_of(
            np.concatenate([rows[valid], self._index.pairs + self._current[best]]),
            np.concatenate([cosines[valid], cosines_of_added[best]]),
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
