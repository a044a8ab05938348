"""A log of drawn images, by which they are recognized without their metadata."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import imagehash
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_common.sqlite import transaction
from reimagen_generator.generation.provenance import Provenance

# The last index holds all that a search for similar images reads.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS images (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    mark INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    created INTEGER NOT NULL,
    provenance TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS images_by_mark ON images (owner, mark);
CREATE INDEX IF NOT EXISTS images_by_time ON images (created);
CREATE INDEX IF NOT EXISTS images_by_owner ON images (owner, created, fingerprint);
"""
_VERSION: Final = 1
_FILE: Final = "images.sqlite3"
_BUSY_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 10.0
# 256 bits, so that those of different images are far from each other: `python -m benchmarks.watermark` measures it.
_HASH_SIDE: Final = 16
SIMILAR_BITS: Final = 32
"""Maximum number of different bits of the fingerprints of one image."""

_logger = logging.getLogger(__name__)


def fingerprint(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Return the perceptual hash of an image, 256 bits: similar images differ in few bits."""
    return np.packbits(imagehash.phash(Image.fromarray(pixels), hash_size=_HASH_SIDE).hash).tobytes()


class ImageLog:
    """A log of drawn images in a folder, shared by all threads. Each owner finds its own images alone."""

    def __init__(self, folder: Path, *, maximum: int, seconds: float) -> None:
        """Open the log, or create it.

        Args:
            folder: The folder, which several processes may use.
            maximum: Number of images that are kept, the latest ones.
            seconds: Time for which images are kept.

        Raises:
            InvalidArgument: The folder cannot be used.
        """
        self._maximum, self._seconds = maximum, seconds
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / _FILE
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._create(path)
        except (OSError, sqlite3.Error) as error:
            raise InvalidArgument(f"cannot keep the log of images in {folder}: {error}", field="state") from error

    def add(self, pixels: UInt8[np.ndarray, "height width 3"], mark: int, origin: Provenance, *, owner: str) -> None:
        """Record an image durably, and delete what is too old or too much. If the disk fails, only warn.

        Args:
            pixels: The image as it is sent.
            mark: The number of its watermark.
            origin: Its provenance.
            owner: The id of the caller.
        """
        now = int(time.time())
        row = (owner, mark, fingerprint(pixels), now, replace(origin, created=now).to_json())
        try:
            with self._transaction() as database:
                number = database.execute(
                    "INSERT INTO images (owner, mark, fingerprint, created, provenance) VALUES (?, ?, ?, ?, ?)", row
                ).lastrowid
                database.execute(
                    "DELETE FROM images WHERE number <= ? OR created < ?",
                    ((number or 0) - self._maximum, now - self._seconds),
                )
        except sqlite3.Error as error:
            _logger.warning("an image is not recorded", extra={"reason": str(error)})

    def with_mark(self, mark: int, *, owner: str) -> Provenance | None:
        """Return the provenance of the owner's latest image with a mark, or None."""
        with self._reading() as database:
            row = database.execute(
                "SELECT created, provenance FROM images WHERE owner = ? AND mark = ? ORDER BY number DESC LIMIT 1",
                (owner, mark),
            ).fetchone()
        return Provenance.from_json(row[1]) if row and row[0] >= time.time() - self._seconds else None

    def most_similar(self, pixels: UInt8[np.ndarray, "height width 3"], *, owner: str) -> Provenance | None:
        """Return the provenance of the owner's image whose fingerprint is nearest, or None if none is near."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT number, fingerprint FROM images WHERE owner = ? AND created >= ?",
                (owner, time.time() - self._seconds),
            ).fetchall()
        if not rows:
            return None
        known = np.frombuffer(b"".join(one for _, one in rows), np.uint8).reshape(len(rows), -1)
        different = np.bitwise_count(known ^ np.frombuffer(fingerprint(pixels), np.uint8)).sum(1)
        nearest = int(different.argmin())
        return self._origin(rows[nearest][0]) if different[nearest] <= SIMILAR_BITS else None

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _create(self, path: Path) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise InvalidArgument(f"{path} is of version {version}, but must be of {_VERSION}", field="state")
        self._database.executescript(_SCHEMA)
        self._database.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._database) as database:
            yield database

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._database
        except sqlite3.Error as error:
            raise Unavailable(f"the log of images cannot be read: {error}", retry_after=_RETRY_SECONDS) from error

    def _origin(self, number: int) -> Provenance | None:
        with self._reading() as database:
            row = database.execute("SELECT provenance FROM images WHERE number = ?", (number,)).fetchone()
        return Provenance.from_json(row[0]) if row else None
