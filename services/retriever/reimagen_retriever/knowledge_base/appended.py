"""Files that live writes append to: records of a pair's id and some bytes, of one length in each file.

As with the shards of live writes, the last commit tells how much of a file counts; what lies behind that is the remains
of a writer that was killed, and the next one cuts it off.
"""

import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.syncing import sync_folder

# Of the id in bytes, and the CRC-32 of id and data; the data's length is that of the file.
_HEAD = struct.Struct("<HI")


@dataclass(frozen=True)
class Record:
    """What was appended for a pair."""

    id: str
    data: bytes
    intact: bool
    """Whether it has the checksum that it was written with."""


class AppendedWriter:
    """Appends records to a file.

    Args:
        path: Of the file; made if it is not there.
        size: How much of it the last commit tells of, in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._file = path.open("ab")
        self._file.truncate(size)

    def add(self, identifier: str, data: bytes) -> None:
        """Appends a record; `sync` makes it last."""
        encoded = identifier.encode()
        record = _HEAD.pack(len(encoded), zlib.crc32(data, zlib.crc32(encoded))) + encoded + data
        self._file.write(record)
        self._size += len(record)

    def sync(self) -> int:
        """Makes all that was added safe on disk; returns the file's size in bytes, for the commit."""
        self._file.flush()
        os.fsync(self._file.fileno())
        sync_folder(self._path.parent)
        return self._size

    def close(self) -> None:
        """Lets go of the file; what was added since the last `sync` may be lost."""
        # After a failed write, closing tries it once more.
        with suppress(OSError):
            self._file.close()


def read_appended(path: Path, length: int, start: int, end: int) -> list[Record]:
    """The records of a part of a file, which begins and ends with a record.

    Args:
        path: Of the file.
        length: Of each record's data, in bytes.
        start: In bytes.
        end: In bytes, as a commit tells it.

    Raises:
        DamagedError: there is less, or something else, in the file.
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
        raise DamagedError(f"{path} does not have the records up to {end:,} bytes that the last commit tells of")
    return records
