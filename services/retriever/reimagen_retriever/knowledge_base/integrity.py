"""Detect damage in a base's files that never change once written: Lucene's index, vectors and fingerprints."""

import hashlib
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_FOOTER_START = (0xC02893E8).to_bytes(4, "big") + bytes(4)
"""Start of Lucene's file footer, before the checksum: the magic number, and the algorithm number of CRC-32."""
_CHECKSUM_BYTES = 8
_CHUNK_BYTES = 1024 * 1024
_RECHECK_SECONDS = 60.0


@dataclass(frozen=True)
class Damage:
    """One damaged part of a base."""

    location: str
    what: str

    def __str__(self) -> str:
        return f"{self.location} {self.what}"


@dataclass(frozen=True)
class FinishedFile:
    """A file that must not change, with the checksum that detects damage."""

    path: Path
    location: str
    """Location of the file in the base, for messages."""
    remedy: str
    sha256: str | None = None
    """Expected SHA-256 in hexadecimal; None for a Lucene file, which ends with its own checksum."""

    def damage(self) -> Damage | None:
        """Return the damage, or None; also None for a missing Lucene file, which a newer commit may have dropped."""
        try:
            with self.path.open("rb") as file:
                if self.sha256 is None:
                    whole = _ends_with_its_checksum(file)
                else:
                    whole = hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return Damage(self.location, f"is missing; {self.remedy}") if self.sha256 else None
        except OSError as error:
            return Damage(self.location, f"can't be read ({error.strerror}); {self.remedy}")
        return None if whole else Damage(self.location, f"is not as it was written; {self.remedy}")

    def stamp(self) -> tuple[int, int] | None:
        """Return size and time of the file, which change when it is written to; None if it is missing.

        Costs one system call.
        """
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


def lucene_files(folder: Path, names: Sequence[str] | None = None) -> list[FinishedFile]:
    """Return the files of an index.

    Args:
        folder: Folder of the index.
        names: File names of a commit; by default all files, for an index without a readable commit.
    """
    if names is None:
        names = sorted(path.name for path in folder.iterdir() if path.name != "write.lock")
    remedy = "restore a snapshot, or build the knowledge base again"
    return [FinishedFile(folder / name, f"{folder.name}/{name}", remedy) for name in names]


def checked_files(folder: Path, sha256: Mapping[str, str], remedy: str) -> list[FinishedFile]:
    """Return the files of a folder whose checksums are in the manifest."""
    return [FinishedFile(folder / name, f"{folder.name}/{name}", remedy, digest) for name, digest in sha256.items()]


def damages(files: Sequence[FinishedFile]) -> Iterator[Damage]:
    """Read each file completely and yield the damage found."""
    for file in files:
        if found := file.damage():
            yield found


class IntegrityWatch:
    """The known damage of a base's files; rechecks a file after it was written to. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int] | None, Damage | None]] = {}
        self._thread: threading.Thread | None = None
        self._cleared_at = float("-inf")

    def look(self, files: Sequence[FinishedFile], seconds: float) -> list[Damage]:
        """Return the damage known so far.

        Args:
            files: Current files of the base.
            seconds: How long to wait until new and changed files are read; reading continues in the background.
        """
        with self._lock:
            there = {file.path for file in files}
            self._known = {path: known for path, known in self._known.items() if path in there}
            unknown = [file for file in files if self._known.get(file.path, (0, None))[0] != file.stamp()]
            if unknown and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._read, args=(unknown,), name="integrity", daemon=True)
                self._thread.start()
            thread = self._thread
        if unknown and thread:
            thread.join(seconds)
        with self._lock:
            found = [self._known[file.path][1] for file in files if file.path in self._known]
        return [damage for damage in found if damage]

    def look_again(self, files: Sequence[FinishedFile], seconds: float) -> list[Damage]:
        """Return the damage after an error that damage would explain: reread all files, at most once a minute."""
        with self._lock:
            if time.monotonic() - self._cleared_at > _RECHECK_SECONDS:
                self._cleared_at = time.monotonic()
                self._known.clear()
        return self.look(files, seconds)

    def _read(self, files: Sequence[FinishedFile]) -> None:
        for file in files:
            stamp, found = file.stamp(), file.damage()
            with self._lock:
                self._known[file.path] = (stamp, found)


def _ends_with_its_checksum(file: BinaryIO) -> bool:
    """Return whether a Lucene file ends with the CRC-32 of the bytes before it."""
    left = os.fstat(file.fileno()).st_size - _CHECKSUM_BYTES
    checksum, end = 0, b""
    while left > 0:
        data = file.read(min(left, _CHUNK_BYTES))
        checksum = zlib.crc32(data, checksum)
        left -= len(data)
        end = (end + data)[-len(_FOOTER_START) :]
        if not data:
            return False
    return end == _FOOTER_START and file.read() == checksum.to_bytes(_CHECKSUM_BYTES, "big")
