"""Append-only files of live writes: records of a pair's id and its data, whose length is fixed for each file.

As with the shards of live writes, the last commit says how many bytes of a file are valid. A killed writer may have
left more bytes after them; the next writer truncates the file.
"""

import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.syncing import sync_folder

# Length of the id in bytes, and CRC-32 of id and data. The length of the data is fixed for each file.
_HEAD = struct.Struct("<HI")


@dataclass(frozen=True)
class Record:
    """A record of one pair."""

    id: str
    data: bytes
    intact: bool
    """Whether the checksum matches."""


class AppendedWriter:
    """A writer that appends records to a file.

    Args:
        path: Path of the file; created if missing.
        size: Valid size in bytes according to the last commit; the file is truncated to it.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._file = path.open("ab")
        self._file.truncate(size)

    def add(self, identifier: str, data: bytes) -> None:
        """Append a record; it is durable after `sync`."""
        encoded = identifier.encode()
        record = _HEAD.pack(len(encoded), zlib.crc32(data, zlib.crc32(encoded))) + encoded + data
        self._file.write(record)
        self._size += len(record)

    def sync(self) -> int:
        """Sync all records to disk and return the file's size in bytes, for the commit."""
        self._file.flush()
        os.fsync(self._file.fileno())
        sync_folder(self._path.parent)
        return self._size

    def close(self) -> None:
        """Close the file; records added since the last `sync` may be lost."""
        # After a failed write, closing flushes the buffer again and may fail again.
        with suppress(OSError):
            self._file.close()


def read_appended(path: Path, length: int, start: int, end: int) -> list[Record]:
    """Return the records between two offsets of a file.

    Args:
        path: Path of the file.
        length: Length of each record's data, in bytes.
        start: Offset of the first record, in bytes.
        end: Offset after the last record, in bytes, from a commit.

    Raises:
        DamagedError: The file is too short, or has no whole records there.
    """
    if start == end:
        return []
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
    except OSError as error:
        raise DamagedError(f"cannot read {path}: {error.strerror}") from error
    records = []
    position = 0
    try:
        while position < end - start:
            id_length, checksum = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            encoded, rest = (
                data[position : position + id_length],
                data[position + id_length : position + id_length + length],
            )
            position += id_length + length
            intact = zlib.crc32(rest, zlib.crc32(encoded)) == checksum
            records.append(Record(encoded.decode(), rest, intact))
    except (struct.error, UnicodeDecodeError):
        position = -1
    if position != end - start or len(data) < position:
        raise DamagedError(f"{path} does not have the records up to byte {end:,} that the last commit names")
    return records
