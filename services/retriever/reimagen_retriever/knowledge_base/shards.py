"""The image store: WebDataset tar shards as img2dataset lays them out, read by (shard, offset, length).

A build writes its shards once. Live writes append to shards of their own, which are whole tar files after every commit:
the end marker is written behind the last pair, and the next pair over it.
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
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair
from reimagen_retriever.knowledge_base.syncing import sync_folder

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
PAIRS_PER_SHARD = 10_000
# Snapshots copy the shard that grows.
_LIVE_SHARD_BYTES = 256 * 1024 * 1024
_END = bytes(2 * tarfile.BLOCKSIZE)


class Shard(BaseModel):
    """One tar file of the image store."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="File name, such as 00000.tar.")
    size: int = Field(description="In bytes; of a shard of live writes, up to the end of its last pair.")
    pairs: int = Field(description="How many pairs were written to it.")
    sha256: str = Field(description="Of the whole file, in hexadecimal; empty for a shard of live writes.")

    @property
    def number(self) -> int:
        """By which it is named; a base's shards have rising ones, but not every one."""
        return int(Path(self.name).stem)

    @property
    def live(self) -> bool:
        """Whether live writes made it; such a shard may be longer than its size, and grow."""
        return not self.sha256


class ShardWriter:
    """Writes pairs into tar shards, images byte for byte.

    Args:
        folder: of the shards; made if it is not there.
        pairs_per_shard: a full one has.
        shards: those that are there and stay as they are.
        first: the number of the first one where none is there.
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
        """Appends a pair and returns where it went."""
        if self.full:
            self.finish_shard()
        if self._tar is None:
            self._tar = _GrowingTar(self._folder, _next_number(self.shards, self._first))
        return self._tar.add(pair, facts)

    def finish_shard(self) -> Shard | None:
        """Ends the shard that is being written, if any; it is safe on disk when this returns."""
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
    """Appends pairs to the shards of a base that is there: to the last one of live writes, or a new one.

    What the last commit does not know of, the remains of a writer that was killed or has failed, is cut off.

    Args:
        folder: of the shards.
        shards: all shards of the base as the last commit has them.
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
        """Appends a pair and returns where it went; `sync` makes it last."""
        if self._tar is not None and _full(self._tar.pairs, self._tar.size):
            self._shards.append(self._synced(self._tar))
            self._tar.close()
            self._tar = None
        if self._tar is None:
            self._tar = _GrowingTar(self._folder, _next_number(self._shards))
        return self._tar.add(pair, facts)

    def sync(self) -> list[Shard]:
        """Makes all that was added safe on disk; returns all shards of the base, for the commit."""
        if self._tar is None:
            return self._shards
        return [*self._shards, self._synced(self._tar)]

    def close(self) -> None:
        """Lets go of the file."""
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
        folder: of the file.
        number: of the shard in the base.
        known: what to keep of the file; none: it is new.
    """

    def __init__(self, folder: Path, number: int, known: Shard | None = None) -> None:
        self.path = folder / f"{number:05d}.tar"
        self.size = known.size if known else 0
        self.pairs = known.pairs if known else 0
        self._number = number
        self._file = self.path.open("r+b" if known else "xb")
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def add(self, pair: SourcePair, facts: ImageFacts) -> StoredPair:
        """Appends a pair and returns where it went."""
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
        """Writes the end marker and makes the file safe on disk; more may be added over the marker."""
        padding = -(self.size + len(_END)) % tarfile.RECORDSIZE
        self._file.write(_END + bytes(padding))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(self.size)

    def close(self) -> None:
        """Closes the file; what was added since the last `end` may be lost."""
        # After a failed write, closing tries it once more.
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
    """Where the images of a base are; safe to use from many threads."""

    @property
    def remote(self) -> bool:
        """Whether one may take a while to come, so that who wants several had better ask for all at once."""

    def read(self, pair: StoredPair) -> bytes:
        """The image's file, byte for byte as it was added.

        Raises:
            DamagedError: it is not there as it should be.
            Unavailable: it is elsewhere, and can't be had now.
        """

    def degraded_reason(self) -> str | None:
        """Why images can't be had now, for an operator; None where they can."""

    def close(self) -> None:
        """Lets go of all files; nothing can be read afterwards."""


class ImageStore:
    """Reads images out of the shards of one data folder; safe to use from many threads.

    Views of the base before and after a live write share the store: each closes it once.
    """

    remote = False

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        """Opens every shard.

        Raises:
            DamagedError: a shard is missing or has another size than it should.
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
        """This store for one more view, with the shards that have come since.

        Raises:
            DamagedError: a new shard is missing or too short.
        """
        with self._lock:
            self._open([shard for shard in shards if shard.name not in self._files])
            self._holders += 1
        return self

    def read(self, pair: StoredPair) -> bytes:
        """The image's file, byte for byte as it was added."""
        data = os.pread(self._files[pair.shard], pair.length, pair.offset)
        if len(data) != pair.length:
            raise DamagedError(f"{pair.shard} ends within the image of {pair.id}")
        return data

    def degraded_reason(self) -> str | None:
        """See `Images`."""
        return None

    def close(self) -> None:
        """Closes the shards, if this was the last view; nothing can be read afterwards."""
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
