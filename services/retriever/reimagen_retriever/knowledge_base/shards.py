"""The image store: WebDataset tar shards, written once, read by (shard, offset, length)."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair
from reimagen_retriever.knowledge_base.picture import PictureFacts

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class Shard(BaseModel):
    """One tar file of the image store."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="File name, such as 00000.tar.")
    size: int = Field(description="In bytes.")
    pairs: int = Field(description="How many pairs it holds.")
    sha256: str = Field(description="Of the whole file, in hexadecimal.")


class ShardWriter:
    """Writes pairs into tar shards of a folder, as img2dataset lays them out, pictures byte for byte."""

    def __init__(self, folder: Path, pairs_per_shard: int = 10_000) -> None:
        self.shards: list[Shard] = []
        self._folder = folder
        self._pairs_per_shard = pairs_per_shard
        self._tar: tarfile.TarFile | None = None
        self._in_shard = 0
        folder.mkdir(parents=True)

    def add(self, pair: SourcePair, facts: PictureFacts) -> StoredPair:
        """Appends a pair and returns where it went."""
        if self._tar is None or self._in_shard == self._pairs_per_shard:
            self._finish_shard()
            self._tar = tarfile.open(self._path, "x", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - closed by _finish_shard
        key = f"{len(self.shards):05d}{self._in_shard:04d}"
        extension = EXTENSIONS[facts.media_type]
        offset = self._append(self._tar, f"{key}.{extension}", pair.image)
        stored = StoredPair(
            id=pair.id,
            contents=pair.text,
            shard=self._path.name,
            offset=offset,
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
            "caption": pair.text,
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
        self._append(self._tar, f"{key}.txt", pair.text.encode())
        self._append(self._tar, f"{key}.json", json.dumps(columns, ensure_ascii=False).encode())
        self._in_shard += 1
        return stored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish_shard()
        elif self._tar is not None:
            self._tar.close()

    @property
    def _path(self) -> Path:
        return self._folder / f"{len(self.shards):05d}.tar"

    @staticmethod
    def _append(tar: tarfile.TarFile, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        tar.addfile(member, io.BytesIO(data))
        # The data ends at the last full block before tar.offset, the place of the next header.
        return tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def _finish_shard(self) -> None:
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        self.shards.append(Shard(name=self._path.name, size=size, pairs=self._in_shard, sha256=digest))
        self._in_shard = 0


class ImageStore:
    """Reads pictures out of the shards of one generation; safe to use from many threads."""

    def __init__(self, folder: Path, shards: list[Shard]) -> None:
        """Opens every shard.

        Raises:
            DamagedError: a shard is missing or has another size than the manifest says.
        """
        self._files: dict[str, int] = {}
        try:
            for shard in shards:
                self._files[shard.name] = os.open(folder / shard.name, os.O_RDONLY | os.O_CLOEXEC)
                size = os.fstat(self._files[shard.name]).st_size
                if size != shard.size:
                    raise DamagedError(f"{shard.name} has {size:,} bytes, the manifest says {shard.size:,}")
        except OSError as error:
            self.close()
            raise DamagedError(f"cannot read shard {error.filename}: {error.strerror}") from error
        except DamagedError:
            self.close()
            raise

    def read(self, pair: StoredPair) -> bytes:
        """The picture's file, byte for byte as it was added."""
        data = os.pread(self._files[pair.shard], pair.length, pair.offset)
        if len(data) != pair.length:
            raise DamagedError(f"{pair.shard} ends within the picture of {pair.id}")
        return data

    def close(self) -> None:
        """Closes the shards; nothing can be read afterwards."""
        while self._files:
            os.close(self._files.popitem()[1])
