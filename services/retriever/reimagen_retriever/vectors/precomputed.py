"""Precomputed vectors in `.npy` files, as LAION and clip-retrieval publish them.

`img_emb_0000.npy` (of images) or `text_emb_0000.npy` (of texts) has one row per pair. `metadata_0000.parquet`, in the
same folder or one beside it, identifies the pairs. Without metadata, the rows follow the order of the base's pairs.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import RejectedError, StoredPair
from reimagen_retriever.knowledge_base.sources.files import LocalFiles
from reimagen_retriever.knowledge_base.sources.rows import SOURCE_COLUMNS, TEXT_COLUMNS, first
from reimagen_retriever.knowledge_base.sources.tables import parquet_rows

Of = Literal["texts", "images"]

_ID_COLUMNS = ("id", "image_path", "key")
_NAMES = {"images": "img_emb_*.npy", "texts": "text_emb_*.npy"}


class Precomputed:
    """The vectors of a folder, by pair.

    Args:
        folder: The folder with the files. Subfolders are included.
        of: The part of a pair that the vectors encode.
        dimension: The required dimension.

    Raises:
        InvalidArgument: There are no vectors, or a file is invalid. The message names the file.
    """

    def __init__(self, folder: Path, of: Of, dimension: int) -> None:
        self._folder = folder
        self._of = of
        self._paths = sorted(folder.rglob(_NAMES[of]), key=_number)
        if not self._paths:
            raise InvalidArgument(f"{folder} has no {_NAMES[of]}", field="given")
        self._arrays = [_array(path, dimension) for path in self._paths]
        self._starts = np.cumsum([0, *map(len, self._arrays)])
        self._tables = {_number(path): path for path in folder.rglob("metadata_*.parquet")}
        self._rows: dict[bytes, int] | None = None
        if self._tables:
            missing = [path for path in self._paths if _number(path) not in self._tables]
            if missing:
                raise InvalidArgument(f"{missing[0]} has no metadata_*.parquet with the same number", field="given")
            self._rows = self._read_tables()

    def identity(self) -> str:
        """Return a text that changes when a file changes."""
        paths = [*self._paths, *sorted(self._tables.values())]
        return " ".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)

    def of(self, pairs: Sequence[StoredPair], start: int, total: int) -> NDArray[np.float32]:
        """Return the vectors of pairs, (pairs, dimension), each of length 1.

        Args:
            pairs: Consecutive pairs of the base.
            start: The position of the first pair in the base.
            total: The number of pairs in the base.

        Raises:
            InvalidArgument: A pair has no vector.
        """
        if self._rows is not None:
            rows = [self._row(pair) for pair in pairs]
        elif total == self._starts[-1]:
            rows = list(range(start, start + len(pairs)))
        else:
            raise InvalidArgument(
                f"{self._folder} has {self._starts[-1]:,} vectors and no metadata_*.parquet, but the base has "
                f"{total:,} pairs",
                field="given",
            )
        files = np.searchsorted(self._starts, rows, "right") - 1
        found = [self._arrays[file][row - self._starts[file]] for file, row in zip(files, rows, strict=True)]
        vectors = np.asarray(found, np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = ~(np.isfinite(lengths) & (lengths > 0))[:, 0]
        if bad.any():
            pair = pairs[int(bad.argmax())]
            raise InvalidArgument(f"the vector of {pair.id!r} is zero or not finite", field="given")
        return np.asarray(vectors / lengths)

    def _row(self, pair: StoredPair) -> int:
        assert self._rows is not None
        keys = [_by_source(pair.source, pair.caption), _by_id(pair.id)]
        if self._of == "images":  # An image with several captions has one vector.
            keys.append(_by_source(pair.source, ""))
        for key in keys:
            if key in self._rows:
                return self._rows[key]
        raise InvalidArgument(
            f"no row of the metadata in {self._folder} matches the pair {pair.id!r} by url, id, image_path or key",
            field="given",
        )

    def _read_tables(self) -> dict[bytes, int]:
        """Return the row of each identifier of a pair.

        Rows with a URL are not found by id, because the keys of every download begin at 0.
        """
        rows: dict[bytes, int] = {}
        files = LocalFiles(self._folder)
        for path, start, stop in zip(self._paths, self._starts, self._starts[1:], strict=False):
            table = self._tables[_number(path)]
            row = start
            with files.open(str(table.relative_to(self._folder))) as file:
                names = {*_ID_COLUMNS, *SOURCE_COLUMNS, *TEXT_COLUMNS}
                for location, columns in parquet_rows(table.name, file, names):
                    if isinstance(columns, RejectedError):
                        raise InvalidArgument(f"{location}: {columns}", field="given")
                    source = first(columns, SOURCE_COLUMNS)
                    if source:
                        rows.setdefault(_by_source(source, " ".join(first(columns, TEXT_COLUMNS).split())), row)
                        rows.setdefault(_by_source(source, ""), row)
                    else:
                        rows.setdefault(_by_id(first(columns, _ID_COLUMNS)), row)
                    row += 1
            if row != stop:
                raise InvalidArgument(
                    f"{table} has {row - start:,} rows, but {path} has {stop - start:,}", field="given"
                )
        return rows


def _number(path: Path) -> int:
    found = re.search(r"(\d+)\.\w+$", path.name)
    return int(found[1]) if found else -1


def _array(path: Path, dimension: int) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path} is not a NumPy array: {error}", field="given") from error
    if array.ndim != 2 or array.shape[1] != dimension or array.dtype.kind != "f":
        raise InvalidArgument(
            f"{path} has {array.dtype} of shape {array.shape}, expected floats of shape (n, {dimension})",
            field="given",
        )
    return array


def _by_source(source: str, text: str) -> bytes:
    return _key(f"source {source}\n{text}")


def _by_id(identifier: str) -> bytes:
    return _key(f"id {identifier}")


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest()
