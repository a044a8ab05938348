"""Nearest-vector search: a FAISS index finds candidates, and the stored vectors score them.

A folder holds `vectors.npy` (float16, one row per pair, as LAION publishes them), `ids.npy` with `offsets.npy` (the id
of each row) and `index.faiss`. All files are memory-mapped: nothing is loaded at the start, and processes share the
page cache. FAISS selects candidate rows. Their cosines are computed from the vectors, so that they are the same for
every kind of index.
"""

import hashlib
import math
import os
import time
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import Unavailable
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.syncing import allocated_array

_faiss: Any = faiss  # for attributes that its type stubs lack
Kind = Literal["flat", "hnsw", "ivf-pq"]

FLAT_UP_TO = 50_000
"""Maximum number of vectors for exact search, which takes some milliseconds per query. See docs/reference/search.md."""
HNSW_UP_TO = 2_000_000
"""Maximum number of vectors for HNSW, whose graph must fit into memory: 2 bytes per dimension and 150 more per vector.
Above it, IVF-PQ takes 1 byte per 8 dimensions."""
_HNSW_LINKS = 32
_HNSW_BUILD_EFFORT = 80
_HNSW_EFFORT = 64
_IVF_PROBED = 1 / 32
_IVF_RESCORED = 16
"""Candidates per requested row for IVF-PQ, whose compressed vectors are approximate."""
_TRAINED_ON = 64
"""Training vectors per IVF list."""
_BLOCK = 65_536
_CHECKPOINT_SECONDS = 5.0
"""Interval between checkpoints, in seconds: the most work that a crash can lose."""


def kind_for(pairs: int) -> Kind:
    """Return the kind of index for a number of pairs."""
    if pairs <= FLAT_UP_TO:
        return "flat"
    return "hnsw" if pairs <= HNSW_UP_TO else "ivf-pq"


class DenseWriter:
    """A writer of the vectors of a base. They are safe on disk after `finish`.

    An unfinished folder is resumed.

    Args:
        folder: Output folder.
        pairs: Total number of pairs.
        dimension: Dimension of the vectors.
    """

    def __init__(self, folder: Path, pairs: int, dimension: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._progress = folder / "done"
        self.done: int = int(self._progress.read_text()) if self._progress.exists() else 0
        """Number of vectors written so far."""
        path = folder / "vectors.npy"
        self._vectors: Any = (
            np.load(path, mmap_mode="r+") if self.done else allocated_array(path, np.float16, (pairs, dimension))
        )
        self._checkpoint_at = time.monotonic()

    def add(self, vectors: NDArray[np.floating[Any]] | Sequence[NDArray[np.floating[Any]]]) -> None:
        """Append the vectors of some pairs, (pairs, dimension), each of length 1."""
        self._vectors[self.done : self.done + len(vectors)] = vectors
        self.done += len(vectors)
        if time.monotonic() - self._checkpoint_at > _CHECKPOINT_SECONDS:
            self._vectors.flush()
            unfinished = self._progress.with_suffix(".new")
            unfinished.write_text(str(self.done))
            unfinished.replace(self._progress)
            self._checkpoint_at = time.monotonic()

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors that were added, by their rows."""
        return np.asarray(self._vectors[rows], np.float32)

    def finish(self, kind: Kind, ids: Iterable[str]) -> None:
        """Build the index. All pairs must have been added.

        Args:
            kind: The kind of index.
            ids: The ids of the pairs, in the order of their vectors.
        """
        pairs, dimension = self._vectors.shape
        self._vectors.flush()
        text, offsets, digests = bytearray(), array("q", [0]), array("Q")
        for identifier in ids:
            encoded = identifier.encode()
            text += encoded
            offsets.append(len(text))
            digests.append(_digest(encoded))
        assert self.done == len(digests) == pairs
        order = np.argsort(np.frombuffer(digests, np.uint64), kind="stable")
        np.save(self._folder / "ids.npy", np.frombuffer(text, np.uint8))
        np.save(self._folder / "offsets.npy", np.frombuffer(offsets, np.int64))
        np.save(self._folder / "digests.npy", np.frombuffer(digests, np.uint64)[order])
        np.save(self._folder / "rows.npy", order)
        # A search in this thread may have set it to 1.
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        index: Any = faiss.index_factory(dimension, _factory(kind, pairs, dimension), faiss.METRIC_INNER_PRODUCT)
        if kind == "hnsw":
            index.hnsw.efConstruction = _HNSW_BUILD_EFFORT
        if not index.is_trained:
            index.train(self._sample(pairs))
        for start in range(0, pairs, _BLOCK):
            index.add(self._vectors[start : start + _BLOCK].astype(np.float32))
        try:
            faiss.write_index(index, str(self._folder / "index.faiss"))
        except RuntimeError as error:  # FAISS raises it when the disk is full.
            raise Unavailable(f"cannot write to {self._folder}: {error}") from error
        self._progress.unlink(missing_ok=True)
        for path in self._folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def _sample(self, pairs: int) -> NDArray[np.float32]:
        count = min(pairs, _TRAINED_ON * _lists(pairs))
        rows = np.sort(np.random.default_rng(0).choice(pairs, count, replace=False))
        return self.read(rows)


class DenseIndex:
    """An index that finds the rows nearest to a vector. Safe to use from many threads."""

    def __init__(self, folder: Path, kind: Kind, pairs: int, dimension: int) -> None:
        """Open a folder that `DenseWriter` wrote.

        Raises:
            DamagedError: A file is missing, broken or of another base.
        """
        self._kind = kind
        try:
            self._vectors, self._ids, self._offsets, self._digests, self._rows = (
                np.load(folder / f"{name}.npy", mmap_mode="r")
                for name in ("vectors", "ids", "offsets", "digests", "rows")
            )
            self._index: Any = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        except (OSError, ValueError, RuntimeError) as error:
            raise DamagedError(f"cannot read the vectors in {folder}: {error}") from error
        shape = (pairs, dimension)
        if not self._vectors.shape == (self._index.ntotal, self._index.d) == (len(self._rows), dimension) == shape:
            raise DamagedError(f"{folder} does not hold {pairs:,} vectors of {dimension:,} dimensions")
        self.pairs = pairs

    def nearest(self, vector: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows nearest to a vector and their cosines with it, best first.

        The search is exact in a flat index, and in any index if n is at least an eighth of the rows. Otherwise it is
        approximate, see docs/reference/search.md for its recall.

        Args:
            vector: (dimension), of length 1.
            n: Maximum number of rows, at least 1.
        """
        n = min(n, self.pairs)
        candidates, parameters = n, None
        if self._kind != "flat" and 8 * n >= self.pairs:
            return best_of(np.arange(self.pairs), self._all_cosines(vector), n)
        if self._kind == "hnsw":
            parameters = _faiss.SearchParametersHNSW(efSearch=max(_HNSW_EFFORT, 2 * n))
        elif self._kind == "ivf-pq":
            candidates = min(_IVF_RESCORED * n, self.pairs)
            parameters = _faiss.SearchParametersIVF(nprobe=max(1, round(_IVF_PROBED * self._index.nlist)))
        # Several threads search at once. More threads per query would only contend for the cores.
        faiss.omp_set_num_threads(1)
        _, labels = self._index.search(vector[None], candidates, params=parameters)
        return self.best(labels[0][labels[0] >= 0], vector, n)

    def best(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the n of the given rows that are nearest to a vector and their cosines with it, best first."""
        return best_of(rows, self.read(rows) @ vector, n)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of rows, (rows, dimension)."""
        return np.asarray(self._vectors[rows], np.float32)

    def identifier(self, row: int) -> str:
        """Return the id of the pair in a row."""
        return bytes(self._ids[self._offsets[row] : self._offsets[row + 1]]).decode()

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of the ids that have one, in no particular order."""
        digests = np.array([_digest(identifier.encode()) for identifier in ids], np.uint64)
        first, last = (np.searchsorted(self._digests, digests, side) for side in ("left", "right"))
        found = [
            row
            for identifier, start, stop in zip(ids, first, last, strict=True)
            for row in self._rows[start:stop]
            if self.identifier(row) == identifier
        ]
        return np.array(found, np.int64)

    def _all_cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        blocks = (self._vectors[start : start + _BLOCK] for start in range(0, self.pairs, _BLOCK))
        return np.concatenate([block.astype(np.float32) @ vector for block in blocks])


class Dense(Protocol):
    """The interface of `DenseIndex`, for indexes with added vectors and unions."""

    pairs: int
    """Number of rows."""

    def nearest(self, vector: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `DenseIndex`."""

    def best(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `DenseIndex`."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `DenseIndex`."""

    def identifier(self, row: int) -> str:
        """See `DenseIndex`."""

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """See `DenseIndex`."""


class DenseUnion:
    """Several indexes as one, with their rows concatenated. Safe to use from many threads."""

    def __init__(self, parts: Sequence[Dense]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.pairs for part in parts)])
        self.pairs: int = self._starts[-1].item()

    def nearest(self, vector: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `DenseIndex`."""
        found = [part.nearest(vector, n) for part in self._parts]
        rows = [start + rows for start, (rows, _) in zip(self._starts, found, strict=False)]
        return best_of(np.concatenate(rows), np.concatenate([cosines for _, cosines in found]), n)

    def best(
        self, rows: NDArray[np.int64], vector: NDArray[np.float32], n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `DenseIndex`."""
        return best_of(rows, self.read(rows) @ vector, n)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `DenseIndex`."""
        owners = np.searchsorted(self._starts, rows, "right") - 1
        order = np.argsort(owners, kind="stable")
        read = [part.read(rows[owners == number] - self._starts[number]) for number, part in enumerate(self._parts)]
        vectors = np.empty((len(rows), read[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(read)
        return vectors

    def identifier(self, row: int) -> str:
        """See `DenseIndex`."""
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        return self._parts[number].identifier(row - int(self._starts[number]))

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """See `DenseIndex`."""
        return np.concatenate([start + part.rows(ids) for start, part in zip(self._starts, self._parts, strict=False)])


def best_of(
    rows: NDArray[np.int64], cosines: NDArray[np.float32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the n rows with the largest cosines and these cosines, best first."""
    order = np.lexsort((rows, -cosines))[:n]
    return rows[order], cosines[order]


def _factory(kind: Kind, pairs: int, dimension: int) -> str:
    match kind:
        case "flat":
            return "SQfp16"
        case "hnsw":
            return f"HNSW{_HNSW_LINKS}_SQfp16"
    pieces = next(pieces for pieces in range(max(1, dimension // 8), 0, -1) if dimension % pieces == 0)
    return f"IVF{_lists(pairs)}_HNSW{_HNSW_LINKS},PQ{pieces}"


def _lists(pairs: int) -> int:
    """Return the number of IVF lists: the power of two nearest to 4·sqrt(pairs), as FAISS's guidelines recommend."""
    return 1 << max(0, round(math.log2(4 * math.sqrt(pairs))))


def _digest(identifier: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(identifier, digest_size=8).digest(), "little")
