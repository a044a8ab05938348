"""The stored fingerprints of a base's images, with which images of live writes are compared.

`fingerprints/` in the data folder has the fingerprints of the build, in memory-mapped arrays: nothing is loaded before
an image is added, and of a million fingerprints a few hundred are read. Rows are in the order of the images' positions;
the cells (see `duplicates`) are sorted, with the row of each. `added` has the fingerprints since the build, see
`knowledge_base.appended`.

Fingerprints are never removed from the files: a reader checks with the index that the pair still exists at that
position.
"""

import os
import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.dedup.duplicates import cells_around, cells_of
from reimagen_retriever.knowledge_base.appended import Record, read_appended
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.fingerprint import FOLDER, GRID, near_duplicates
from reimagen_retriever.knowledge_base.syncing import allocated_array

ADDED = f"{FOLDER}/added"
"""File of the fingerprints added since the build, see `Changes.appended`."""
_LENGTH = GRID * GRID * 3
_POSITION = struct.Struct("<q")
RECORD_BYTES = _POSITION.size + _LENGTH
_FIRST_BATCH, _LARGEST_BATCH = 256, 8_192
"""Numbers of images compared at once; a small first batch often contains the first near-duplicate."""
_ARRAYS = ("fingerprints", "positions", "ids", "offsets", "cells", "rows")

Near = tuple[int, str]
"""The position of an image and the id of its pair."""


class FingerprintWriter:
    """Writer of the fingerprints of a new base; they are durable after `finish`.

    Args:
        folder: Data folder of the base.
        pairs: Number of pairs that will be added.
    """

    def __init__(self, folder: Path, pairs: int) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        # An empty file can't be memory-mapped.
        shape = (pairs, _LENGTH)
        path = self._folder / "fingerprints.npy"
        self._fingerprints: Any = allocated_array(path, np.uint8, shape) if pairs else np.empty(shape, np.uint8)
        self._positions, self._ids, self._offsets = array("q"), bytearray(), array("q", [0])

    def add(self, identifier: str, position: int, fingerprint: bytes) -> None:
        """Append the fingerprint of an image, whose position must be greater than all before it."""
        self._fingerprints[len(self._positions)] = np.frombuffer(fingerprint, np.uint8)
        self._positions.append(position)
        self._ids += identifier.encode()
        self._offsets.append(len(self._ids))

    def finish(self) -> Path:
        """Write and sync all files; return their folder."""
        blocks = range(0, len(self._positions), 65_536)
        cells = np.concatenate(
            [np.empty(0, np.int64), *(cells_of(self._fingerprints[start : start + 65_536]) for start in blocks)]
        )
        rows = np.argsort(cells, kind="stable")
        if len(self._positions):
            self._fingerprints.flush()
        else:
            np.save(self._folder / "fingerprints.npy", self._fingerprints)
        columns: tuple[NDArray[Any], ...] = (
            np.array(self._positions, np.int64),
            np.frombuffer(self._ids, np.uint8),
            np.array(self._offsets, np.int64),
        )
        for name, values in zip(_ARRAYS[1:], (*columns, cells[rows], rows), strict=True):
            np.save(self._folder / f"{name}.npy", values)
        for path in self._folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return self._folder


class AddedFingerprints:
    """The fingerprints added since the build, in memory; not thread-safe.

    Args:
        folder: Data folder of the base.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = 0
        """Bytes of the file that have been read."""
        self.all: list[tuple[int, str, bytes]] = []
        """Position, id and fingerprint of each image."""
        self.row_of: dict[int, int] = {}
        """Row in `all` by position."""
        self.cells: dict[int, list[int]] = defaultdict(list)
        """Rows in each cell, see `duplicates`."""

    def read(self, size: int) -> Self:
        """Read the records up to the file's size in the last commit; return itself.

        Raises:
            DamagedError: The file is too short or damaged.
        """
        records = read_appended(self.folder / ADDED, RECORD_BYTES, self.size, size)
        self.take([_parse(each) for each in records if each.intact])
        self.size = size
        return self

    def take(self, added: list[tuple[int, str, bytes]]) -> None:
        """Add fingerprints, whose positions must be greater than all others."""
        if not added:
            return
        fingerprints = np.frombuffer(b"".join(fingerprint for _, _, fingerprint in added), np.uint8)
        for cell, each in zip(cells_of(fingerprints.reshape(-1, _LENGTH)).tolist(), added, strict=True):
            self.cells[cell].append(len(self.all))
            self.row_of[each[0]] = len(self.all)
            self.all.append(each)


class KeptFingerprints:
    """The fingerprints of all images ever stored in a base, with a search for near-duplicates; not thread-safe.

    Args:
        added: Fingerprints added since the build.
        built: Whether the build has stored fingerprints.

    Raises:
        DamagedError: The files are missing or damaged.
    """

    def __init__(self, added: AddedFingerprints, *, built: bool) -> None:
        self._built: dict[str, Any] = {}
        if built:
            try:
                for name in _ARRAYS:
                    path = added.folder / FOLDER / f"{name}.npy"
                    self._built[name] = np.load(path, mmap_mode="r" if path.stat().st_size > 256 else None)
            except (OSError, ValueError) as error:
                raise DamagedError(f"cannot read the fingerprints in {added.folder}: {error}") from error
        self._added = added
        self._last: tuple[list[int], NDArray[np.int64]] = ([], np.empty(0, np.int64))

    def of(self, position: int) -> bytes | None:
        """Return the fingerprint of the image at a position, or None if it is not stored."""
        if position in self._added.row_of:
            return self._added.all[self._added.row_of[position]][2]
        if not self._built:
            return None
        row = int(np.searchsorted(self._built["positions"], position))
        known = row < len(self._built["positions"]) and self._built["positions"][row] == position
        return self._built["fingerprints"][row].tobytes() if known else None

    def add(self, identifier: str, position: int, fingerprint: bytes) -> None:
        """Add a fingerprint in memory, at a position greater than all others; the caller stores its `record`."""
        self._added.take([(position, identifier, fingerprint)])

    def near(self, fingerprint: bytes, after: int = -1) -> Iterator[list[Near]]:
        """Yield the near-duplicates of an image in batches, in the order of their positions.

        Args:
            fingerprint: Fingerprint of the image.
            after: Only images after this position are returned.
        """
        row = np.frombuffer(fingerprint, np.uint8)[None]
        cells = cells_around(fingerprint)
        for rows in self._built_rows(cells, after):
            near = rows[near_duplicates(row, self._built["fingerprints"][rows])[0]]
            yield [(int(self._built["positions"][each]), self._identifier(each)) for each in near]
        added = sorted(number for cell in cells for number in self._added.cells.get(cell, ()))
        for part in _batches(0, len(added)):
            some = [self._added.all[number] for number in added[part]]
            others = np.frombuffer(b"".join(each for _, _, each in some), np.uint8).reshape(-1, _LENGTH)
            near = near_duplicates(row, others)[0]
            pairs = zip(some, near, strict=True)
            yield [
                (position, identifier) for (position, identifier, _), is_near in pairs if is_near and position > after
            ]

    def _built_rows(self, cells: list[int], after: int) -> Iterator[NDArray[np.int64]]:
        if not self._built:
            return
        if self._last[0] != cells:
            sorted_cells = self._built["cells"]
            first, last = (np.searchsorted(sorted_cells, np.array(cells), side) for side in ("left", "right"))
            parts = [self._built["rows"][a:b] for a, b in zip(first, last, strict=True) if a < b]
            self._last = (cells, np.sort(np.concatenate([np.empty(0, np.int64), *parts])))
        rows = self._last[1]
        start = int(np.searchsorted(self._built["positions"], after, "right"))
        for part in _batches(int(np.searchsorted(rows, start)), len(rows)):
            yield rows[part]

    def _identifier(self, row: int) -> str:
        first, last = self._built["offsets"][row : row + 2]
        return bytes(self._built["ids"][first:last]).decode()


def _batches(start: int, stop: int) -> Iterator[slice]:
    """Yield slices from `start` to `stop`, each twice as large as the last, up to a limit."""
    size = _FIRST_BATCH
    while start < stop:
        yield slice(start, min(start + size, stop))
        start, size = start + size, min(2 * size, _LARGEST_BATCH)


def record(position: int, fingerprint: bytes) -> bytes:
    """Return the data of an image's record in the file of added fingerprints."""
    return _POSITION.pack(position) + fingerprint


def _parse(stored: Record) -> tuple[int, str, bytes]:
    (position,) = _POSITION.unpack_from(stored.data)
    return position, stored.id, stored.data[_POSITION.size :]
