"""Telling damage in the files of a base that never change once they are written: Lucene's, vectors and fingerprints."""

import hashlib
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BEFORE_CHECKSUM = (0xC02893E8).to_bytes(4, "big") + bytes(4)
"""What Lucene writes before the checksum of a file: the end's mark, and the number of the algorithm, CRC-32."""
_CHECKSUM_BYTES = 8
_AT_ONCE = 1024 * 1024
_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Damage:
    """Something that is not as it should be."""

    location: str
    what: str

    def __str__(self) -> str:
        return f"{self.location} {self.what}"


@dataclass(frozen=True)
class FinishedFile:
    """A file that does not change any more, and how to tell that it has."""

    path: Path
    location: str
    """Of the file in the base, for messages."""
    remedy: str
    sha256: str | None = None
    """None for a file of Lucene's, which ends with a checksum of its own."""

    def damage(self) -> Damage | None:
        """What is wrong with it; None also where it is gone, as a file that no commit names any longer may be."""
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
        """Changes when the file is written to; costs one system call."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


def lucene_files(folder: Path, names: Sequence[str] | None = None) -> list[FinishedFile]:
    """The files of an index.

    Args:
        folder: Of the index.
        names: Those of a commit; by default all that there are, for an index of which no commit can be read.
    """
    if names is None:
        names = sorted(path.name for path in folder.iterdir() if path.name != "write.lock")
    remedy = "restore a snapshot, or build the knowledge base again"
    return [FinishedFile(folder / name, f"{folder.name}/{name}", remedy) for name in names]


def checked_files(folder: Path, sha256: Mapping[str, str], remedy: str) -> list[FinishedFile]:
    """The files of a folder whose checksums the manifest has."""
    return [FinishedFile(folder / name, f"{folder.name}/{name}", remedy, digest) for name, digest in sha256.items()]


def damages(files: Sequence[FinishedFile]) -> Iterator[Damage]:
    """What is wrong with the files, each read to its end."""
    for file in files:
        if found := file.damage():
            yield found


class IntegrityWatch:
    """Knows which of a base's files are damaged, and looks again when one has been written to; for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int] | None, Damage | None]] = {}
        self._thread: threading.Thread | None = None
        self._forgotten_at = float("-inf")

    def look(self, files: Sequence[FinishedFile], seconds: float) -> list[Damage]:
        """The damage that is known of.

        Args:
            files: Of the base as it is now.
            seconds: How long to wait for files that are new or have changed to be read; reading goes on meanwhile.
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
        """The same, after an error that damage would explain: all files are read again, but not every time."""
        with self._lock:
            if time.monotonic() - self._forgotten_at > _AGAIN_SECONDS:
                self._forgotten_at = time.monotonic()
                self._known.clear()
        return self.look(files, seconds)

    def _read(self, files: Sequence[FinishedFile]) -> None:
        for file in files:
            stamp, found = file.stamp(), file.damage()
            with self._lock:
                self._known[file.path] = (stamp, found)


def _ends_with_its_checksum(file: BinaryIO) -> bool:
    """Whether a file of Lucene's ends with the CRC-32 of what is before."""
    left = os.fstat(file.fileno()).st_size - _CHECKSUM_BYTES
    checksum, end = 0, b""
    while left > 0:
        data = file.read(min(left, _AT_ONCE))
        checksum = zlib.crc32(data, checksum)
        left -= len(data)
        end = (end + data)[-len(_BEFORE_CHECKSUM) :]
        if not data:
            return False
    return end == _BEFORE_CHECKSUM and file.read() == checksum.to_bytes(_CHECKSUM_BYTES, "big")
