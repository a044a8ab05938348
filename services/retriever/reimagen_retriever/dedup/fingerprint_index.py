"""The fingerprints of a base's images, kept so that what is added live is compared with them.

`fingerprints/` in the base's folder holds those of a build, in arrays that are read through the system's page cache:
nothing is loaded before an image is added, and of a million a few hundred are looked at. They lie in the order of the
images' positions; their cells (see `duplicates`) are sorted, with the row of each. `added` has those that have come
since, see `knowledge_base.appended`.

Nothing is taken out of the files: who finds an image there asks the index whether its pair is still there, with that
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
"""See `Changes.appended`."""
_LENGTH = GRID * GRID * 3
_POSITION = struct.Struct("<q")
RECORD_BYTES = _POSITION.size + _LENGTH
_FIRST, _MOST_AT_ONCE = 256, 8_192
"""Of images that are compared at once: who wants the first that is near often has it among few."""
_ARRAYS = ("fingerprints", "positions", "ids", "offsets", "cells", "rows")

Near = tuple[int, str]
"""The position of an image and the id of its pair."""


class FingerprintWriter:
    """Writes the fingerprints of a base that is being built; they are safe on disk after `finish`.

    Args:
        folder: Of the base.
        pairs: How many there will be.
    """

    def __init__(self, folder: Path, pairs: int) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        # Without pairs there would be nothing to map into memory.
        shape = (pairs, _LENGTH)
        path = self._folder / "fingerprints.npy"
        self._fingerprints: Any = allocated_array(path, np.uint8, shape) if pairs else np.empty(shape, np.uint8)
        self._positions, self._ids, self._offsets = array("q"), bytearray(), array("q", [0])

    def add(self, identifier: str, position: int, fingerprint: bytes) -> None:
        """Appends an image's, whose position comes after those before it."""
        self._fingerprints[len(self._positions)] = np.frombuffer(fingerprint, np.uint8)
        self._positions.append(position)
        self._ids += identifier.encode()
        self._offsets.append(len(self._ids))

    def finish(self) -> Path:
        """Writes the rest; returns the folder of the files."""
        blocks = range(0, len(self._positions), 65_536)
        cells = np.concatenate(
            [np.empty(0, np.int64), *(cells_of(self._fingerprints[start : start + 65_536]) for start in blocks)]
        )
        rows = np.argsort(cells, kind="stable")
        if len(self._positions):
            self._fingerprints.flush()
        else:
            np.save(self._folder / "fingerprints.npy", self._fingerprints)
        kept: tuple[NDArray[Any], ...] = (
            np.array(self._positions, np.int64),
            np.frombuffer(self._ids, np.uint8),
            np.array(self._offsets, np.int64),
        )
        for name, values in zip(_ARRAYS[1:], (*kept, cells[rows], rows), strict=True):
            np.save(self._folder / f"{name}.npy", values)
        for path in self._folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return self._folder


class AddedFingerprints:
    """Those that have come since the build, in memory; used by one thread.

    Args:
        folder: Of the base.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = 0
        """Bytes of the file whose records are here."""
        self.all: list[tuple[int, str, bytes]] = []
        """Place, id and fingerprint of each."""
        self.row_of: dict[int, int] = {}
        """By their positions."""
        self.cells: dict[int, list[int]] = defaultdict(list)
        """The rows in each cell, see `duplicates`."""

    def read(self, size: int) -> Self:
        """Takes in what the last commit tells of, so many bytes, and is not here yet; returns itself.

        Raises:
            DamagedError: it is not there.
        """
        records = read_appended(self.folder / ADDED, RECORD_BYTES, self.size, size)
        self.take([_parsed(each) for each in records if each.intact])
        self.size = size
        return self

    def take(self, added: list[tuple[int, str, bytes]]) -> None:
        """Takes in more, whose positions come after all others."""
        if not added:
            return
        fingerprints = np.frombuffer(b"".join(fingerprint for _, _, fingerprint in added), np.uint8)
        for cell, each in zip(cells_of(fingerprints.reshape(-1, _LENGTH)).tolist(), added, strict=True):
            self.cells[cell].append(len(self.all))
            self.row_of[each[0]] = len(self.all)
            self.all.append(each)


class KeptFingerprints:
    """Finds near-duplicates among all images that were ever taken into a base; used by one thread.

    Args:
        added: Those that have come since the build.
        built: Whether the build has written what it took in.

    Raises:
        DamagedError: the files are not there, or not whole.
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
        """The fingerprint of the image at a position, if it is kept."""
        if position in self._added.row_of:
            return self._added.all[self._added.row_of[position]][2]
        if not self._built:
            return None
        row = int(np.searchsorted(self._built["positions"], position))
        known = row < len(self._built["positions"]) and self._built["positions"][row] == position
        return self._built["fingerprints"][row].tobytes() if known else None

    def add(self, identifier: str, position: int, fingerprint: bytes) -> None:
        """Keeps one more, whose position comes after all others; who wants it to last writes the `record` of it."""
        self._added.take([(position, identifier, fingerprint)])

    def near(self, fingerprint: bytes, after: int = -1) -> Iterator[list[Near]]:
        """The images that one nearly shows, in the order of their positions; a few at a time.

        Args:
            fingerprint: Of the one.
            after: The position after which they are wanted.
        """
        row = np.frombuffer(fingerprint, np.uint8)[None]
        cells = cells_around(fingerprint)
        for rows in self._built_rows(cells, after):
            near = rows[near_duplicates(row, self._built["fingerprints"][rows])[0]]
            yield [(int(self._built["positions"][each]), self._identifier(each)) for each in near]
        added = sorted(number for cell in cells for number in self._added.cells.get(cell, ()))
        for part in _parts(0, len(added)):
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
        for part in _parts(int(np.searchsorted(rows, start)), len(rows)):
            yield rows[part]

    def _identifier(self, row: int) -> str:
        first, last = self._built["offsets"][row : row + 2]
        return bytes(self._built["ids"][first:last]).decode()


def _parts(start: int, stop: int) -> Iterator[slice]:
    """What lies between, in parts, each twice as large as the last."""
    size = _FIRST
    while start < stop:
        yield slice(start, min(start + size, stop))
        start, size = start + size, min(2 * size, _MOST_AT_ONCE)


def record(position: int, fingerprint: bytes) -> bytes:
    """What is appended to the file for an image."""
    return _POSITION.pack(position) + fingerprint


def _parsed(kept: Record) -> tuple[int, str, bytes]:
    (position,) = _POSITION.unpack_from(kept.data)
    return position, kept.id, kept.data[_POSITION.size :]
