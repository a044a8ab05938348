"""The image store: WebDataset tar shards in img2dataset's layout, read by (shard, offset, length).

A build writes its shards once. Live writes append to separate shards, which are complete tar files after every commit:
the end marker follows the last pair, and the next pair overwrites it.
"""

import hashlib
import json
import os
import tarfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair, shard_name
from reimagen_retriever.knowledge_base.syncing import sync_folder

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
PAIRS_PER_SHARD = 10_000
# Bounds the bytes that a snapshot copies: it copies the shard that still grows.
_LIVE_SHARD_BYTES = 256 * 1024 * 1024
_END = bytes(2 * tarfile.BLOCKSIZE)


class Shard(BaseModel):
    """One tar file of the image store."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="File name, such as 00000.tar.")
    size: int = Field(description="Size in bytes; for a shard of live writes, up to the end of its last pair.")
    pairs: int = Field(description="Number of pairs written to the shard.")
    sha256: str = Field(description="SHA-256 of the file, in hexadecimal; empty for a shard of live writes.")

    @property
    def number(self) -> int:
        """The number in the file name; numbers rise within a base, with gaps."""
        return int(Path(self.name).stem)

    @property
    def live(self) -> bool:
        """Whether live writes created the shard; its file may be longer than `size`, and grow."""
        return not self.sha256


class ShardWriter:
    """A writer of pairs into tar shards; images are stored byte for byte.

    Args:
        folder: Folder of the shards; created if missing.
        pairs_per_shard: Number of pairs in a full shard.
        shards: Existing shards, which are not changed.
        first: Number of the first shard if none exists.
    """

    def __init__(
        self, folder: Path, pairs_per_shard: int = PAIRS_PER_SHARD, shards: Sequence[Shard] = (), first: int = 0
    ) -> None:
        self.shards = list(shards)
        self._folder = folder
        self._pairs_per_shard = pairs_per_shard
        self._first = first
        self._tar: _GrowingTar | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def full(self) -> bool:
        """Whether the next pair begins a new shard."""
        return self._tar is not None and self._tar.pairs == self._pairs_per_shard

    def add(self, pair: SourcePair, facts: ImageFacts) -> StoredPair:
        """Append a pair and return it with its location."""
        if self.full:
            self.finish_shard()
        if self._tar is None:
            self._tar = _GrowingTar(self._folder, _next_number(self.shards, self._first))
        return self._tar.add(pair, facts)

    def finish_shard(self) -> Shard | None:
        """Finish the current shard, if any, and sync it to disk."""
        if self._tar is None:
            return None
        tar, self._tar = self._tar, None
        tar.end()
        tar.close()
        with tar.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
        sync_folder(self._folder)
        self.shards.append(Shard(name=tar.path.name, size=size, pairs=tar.pairs, sha256=digest))
        return self.shards[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish_shard()
        elif self._tar is not None:
            self._tar.close()


class LiveShardWriter:
    """A writer that appends pairs to an existing base: to the last shard of live writes, or to a new one.

    Shards and bytes that are not in the last commit, left by a killed or failed writer, are removed.

    Args:
        folder: Folder of the shards.
        shards: All shards of the base in the last commit.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self._folder = folder
        self._shards = list(shards)
        self._tar: _GrowingTar | None = None
        for leftover in {path.name for path in folder.glob("*.tar")} - {shard.name for shard in shards}:
            (folder / leftover).unlink()
        if shards and shards[-1].live and not _full(shards[-1].pairs, shards[-1].size):
            last = self._shards.pop()
            self._tar = _GrowingTar(folder, last.number, last)

    def add(self, pair: SourcePair, facts: ImageFacts) -> StoredPair:
        """Append a pair and return it with its location; it is durable after `sync`."""
        if self._tar is not None and _full(self._tar.pairs, self._tar.size):
            self._shards.append(self._synced(self._tar))
            self._tar.close()
            self._tar = None
        if self._tar is None:
            self._tar = _GrowingTar(self._folder, _next_number(self._shards))
        return self._tar.add(pair, facts)

    def sync(self) -> list[Shard]:
        """Sync all added pairs to disk and return all shards of the base, for the commit."""
        if self._tar is None:
            return self._shards
        return [*self._shards, self._synced(self._tar)]

    def close(self) -> None:
        """Close the current shard."""
        if self._tar is not None:
            self._tar.close()

    def _synced(self, tar: "_GrowingTar") -> Shard:
        tar.end()
        sync_folder(self._folder)
        return Shard(name=tar.path.name, size=tar.size, pairs=tar.pairs, sha256="")


def _next_number(shards: Sequence[Shard], first: int = 0) -> int:
    return shards[-1].number + 1 if shards else first


def _full(pairs: int, size: int) -> bool:
    return pairs >= PAIRS_PER_SHARD or size >= _LIVE_SHARD_BYTES


class _GrowingTar:
    """A tar file that pairs are appended to.

    Args:
        folder: Folder of the file.
        number: Number of the shard in the base.
        known: Valid part of an existing file; None creates a new one.
    """

    def __init__(self, folder: Path, number: int, known: Shard | None = None) -> None:
        self.path = folder / shard_name(number)
        self.size = known.size if known else 0
        self.pairs = known.pairs if known else 0
        self._number = number
        self._file = self.path.open("r+b" if known else "xb")
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def add(self, pair: SourcePair, facts: ImageFacts) -> StoredPair:
        """Append a pair and return it with its location."""
        key = f"{self._number:05d}{self.pairs:04d}"
        stored = StoredPair(
            id=pair.id,
            caption=pair.caption,
            shard=self.path.name,
            offset=self._append(f"{key}.{EXTENSIONS[facts.media_type]}", pair.image),
            length=len(pair.image),
            sha256=hashlib.sha256(pair.image).hexdigest(),
            media_type=facts.media_type,
            width=facts.width,
            height=facts.height,
            source=pair.source,
            license=pair.license,
            unsafe=pair.unsafe,
            duplicate_of=pair.duplicate_of,
        )
        columns: dict[str, str | int | float] = {
            "key": key,
            "status": "success",
            "id": pair.id,
            "caption": pair.caption,
            "url": pair.source,
            "license": pair.license,
            "width": facts.width,
            "height": facts.height,
            "sha256": stored.sha256,
        }
        if pair.unsafe is not None:
            columns["punsafe"] = pair.unsafe
        if pair.duplicate_of:
            columns["duplicate_of"] = pair.duplicate_of
        self._append(f"{key}.txt", pair.caption.encode())
        self._append(f"{key}.json", json.dumps(columns, ensure_ascii=False).encode())
        self.pairs += 1
        return stored

    def end(self) -> None:
        """Write the end marker and sync the file; the next pair overwrites the marker."""
        padding = -(self.size + len(_END)) % tarfile.RECORDSIZE
        self._file.write(_END + bytes(padding))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(self.size)

    def close(self) -> None:
        """Close the file; pairs added since the last `end` may be lost."""
        # After a failed write, closing flushes the buffer again and may fail again.
        with suppress(OSError):
            self._file.close()

    def _append(self, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        header = member.tobuf(tarfile.GNU_FORMAT)
        self._file.write(header)
        self._file.write(data)
        self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        offset = self.size + len(header)
        self.size = offset + len(data) + -len(data) % tarfile.BLOCKSIZE
        return offset


class Images(Protocol):
    """A reader of the images of a base; thread-safe."""

    @property
    def remote(self) -> bool:
        """Whether reads are slow enough that several images should be read concurrently."""

    def read(self, pair: StoredPair) -> bytes:
        """Return the image file, byte for byte as it was added.

        Raises:
            DamagedError: The image is missing or damaged.
            Unavailable: The image is in an object store that does not answer.
        """

    def degraded_reason(self) -> str | None:
        """Return why images can't be read now, for the operator; None if they can."""

    def close(self) -> None:
        """Close all files; nothing can be read afterwards."""


class ImageStore:
    """Reader of images from the shards of one data folder; thread-safe.

    The views of the base before and after a live write share the store, and each closes it once.
    """

    remote = False

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        """Open every shard.

        Raises:
            DamagedError: A shard is missing or has the wrong size.
        """
        self._folder = folder
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        self._holders = 1
        try:
            self._open(shards)
        except DamagedError:
            self.close()
            raise

    def shared(self, shards: Sequence[Shard]) -> Self:
        """Return this store for one more view, with any new shards opened.

        Raises:
            DamagedError: A new shard is missing or too short.
        """
        with self._lock:
            self._open([shard for shard in shards if shard.name not in self._files])
            self._holders += 1
        return self

    def read(self, pair: StoredPair) -> bytes:
        """Return the image file, see `Images`."""
        data = os.pread(self._files[pair.shard], pair.length, pair.offset)
        if len(data) != pair.length:
            raise DamagedError(f"{pair.shard} ends within the image of {pair.id}")
        return data

    def degraded_reason(self) -> str | None:
        """Return None: local images are always available."""
        return None

    def close(self) -> None:
        """Close the shards if this was the last view; nothing can be read afterwards."""
        with self._lock:
            self._holders -= 1
            while self._files and self._holders == 0:
                os.close(self._files.popitem()[1])

    def _open(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            try:
                descriptor = os.open(self._folder / shard.name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise DamagedError(f"cannot read shard {error.filename}: {error.strerror}") from error
            self._files[shard.name] = descriptor
            size = os.fstat(descriptor).st_size
            if size < shard.size or (size > shard.size and not shard.live):
                raise DamagedError(f"{shard.name} has {size:,} bytes, the manifest says {shard.size:,}")
