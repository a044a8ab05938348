"""Write training shards of pairs with their neighbors.

A shard is a WebDataset tar. A sample consists of `KEY.jpg` (or .png, .webp), `KEY.txt`, `KEY.json`, and its neighbors
`KEY.neighbor0.jpg`, `KEY.neighbor0.txt`, `KEY.neighbor1.jpg` ... KEY is the position of the pair in the base. The file
`00000_stats.json` beside a shard `00000.tar` is written last and marks the shard as complete.
"""

import io
import json
import os
import secrets
import socket
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import NotFound, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.shards import EXTENSIONS
from reimagen_retriever.knowledge_base.syncing import write_whole
from reimagen_retriever.neighbors.captions import Captions
from reimagen_retriever.neighbors.knn import Found, NeighborFinder
from reimagen_retriever.neighbors.pixels import cropped, padded

_BATCH = 64
_CACHED_NEIGHBORS = 256


class ShardStats(BaseModel):
    """Statistics of a shard. The sum of all shards gives those of an export."""

    model_config = ConfigDict(frozen=True)

    count: int = Field(default=0, description="Number of samples.")
    without_neighbors: int = Field(default=0, description="Number of samples without neighbors.")
    with_all_neighbors: int = Field(default=0, description="Number of samples with k neighbors.")
    near_duplicates: int = Field(
        default=0, description="Number of pairs excluded as neighbors because they show the same image."
    )
    broken: int = Field(default=0, description="Number of pairs left out because their images cannot be read.")

    def __add__(self, other: "ShardStats") -> "ShardStats":
        left, right = self.model_dump(), other.model_dump()
        return ShardStats(**{name: left[name] + right[name] for name in left})


@dataclass(frozen=True)
class Options:
    """The options of an export."""

    k: int
    relevance: Relevance
    size: int | None = None
    """Side of the stored squares in pixels. None stores the original files."""


@dataclass(frozen=True)
class ShardToWrite:
    """A shard of consecutive pairs of the base."""

    path: Path
    first: int
    """The position of the first pair in the base."""
    documents: Sequence[int]
    """The document numbers of the pairs in the index."""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class WrittenShard:
    """The result of writing a shard."""

    stats: ShardStats
    broken: list[str]
    """A message for each pair that was left out."""


class ShardWriter:
    """A writer of shards.

    Args:
        base: An open knowledge base.
        captions: The captions of the base.
        threads: Number of threads that search and decode images.
        options: The options of the export.
        advanced: A function that is called with the number of pairs that have been processed.
    """

    def __init__(
        self,
        base: KnowledgeBase,
        captions: Captions,
        threads: int,
        options: Options,
        advanced: Callable[[int], object],
    ) -> None:
        self._base = base
        self._pool = ThreadPoolExecutor(threads)
        self._finder = NeighborFinder(base, captions, options.k, options.relevance, self._pool)
        self._options = options
        self._advanced = advanced
        # Adjacent pairs often share neighbors.
        self._neighbor = lru_cache(_CACHED_NEIGHBORS)(self._read_neighbor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def write(self, shard: ShardToWrite) -> WrittenShard:
        """Write a shard and its statistics, or only the statistics if no image can be read."""
        total, broken = ShardStats(), list[str]()
        # The name is unique, because a machine that was assumed dead may still be writing.
        unfinished = shard.path.with_suffix(f".{secrets.token_hex(4)}.part")
        with unfinished.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for done in range(0, len(shard.documents), _BATCH):
                    documents = shard.documents[done : done + _BATCH]
                    found = self._finder.find(self._base.index.read(documents))
                    samples = self._pool.map(lambda each: list(self._members(each)), found)
                    batch = zip(found, samples, strict=True)
                    for number, (each, members) in enumerate(batch, start=shard.first + done):
                        total += self._stats(each)
                        if each.broken:
                            broken.append(f"left out {each.pair.id}: broken image ({each.broken})")
                        for extension, data in members:
                            member = tarfile.TarInfo(f"{number:08d}.{extension}")
                            member.size = len(data)
                            tar.addfile(member, io.BytesIO(data))
                    self._advanced(len(documents))
            file.flush()
            os.fsync(file.fileno())
        if total.count:
            unfinished.replace(shard.path)
        else:
            unfinished.unlink()
        write_whole(stats_path(shard.path), total.model_dump_json().encode() + b"\n")
        return WrittenShard(total, broken)

    def _stats(self, found: Found) -> ShardStats:
        if found.broken:
            return ShardStats(broken=1)
        return ShardStats(
            count=1,
            without_neighbors=int(not found.neighbors),
            with_all_neighbors=int(len(found.neighbors) == self._options.k),
            near_duplicates=found.near_duplicates,
        )

    def _members(self, found: Found) -> Iterator[tuple[str, bytes]]:
        if found.broken:
            return
        size = self._options.size
        data = self._base.images.read(found.pair)
        yield (EXTENSIONS[found.pair.media_type], data) if size is None else cropped(data, size)
        yield "txt", found.pair.caption.encode()
        notes = {**_note(found.pair), "neighbors": [_note(neighbor) for neighbor in found.neighbors]}
        yield "json", json.dumps(notes, ensure_ascii=False).encode()
        for rank, neighbor in enumerate(found.neighbors):
            extension, data = self._neighbor(neighbor)
            yield f"neighbor{rank}.{extension}", data
            yield f"neighbor{rank}.txt", neighbor.caption.encode()

    def _read_neighbor(self, pair: StoredPair) -> tuple[str, bytes]:
        data, size = self._base.images.read(pair), self._options.size
        return (EXTENSIONS[pair.media_type], data) if size is None else padded(data, size)


def stats_path(shard: Path) -> Path:
    """Return the path of a shard's statistics, whose existence marks the shard as complete."""
    return shard.with_name(f"{shard.stem}_stats.json")


def _note(pair: StoredPair) -> dict[str, str]:
    return {"id": pair.id, "source": pair.source, "license": pair.license}


@dataclass(frozen=True)
class Work:
    """The inputs that all workers of a Ray cluster share."""

    knowledge_base: Path
    data_folders: tuple[str, ...]
    """The result of `data_folders` for the base in which the document numbers are valid."""
    revision: str
    options: Options
    captions: Captions = field(repr=False, compare=False)
    """The captions of the base. The workers of a machine share the memory of the arrays."""


def write_shard(work: Work, shard: ShardToWrite) -> WrittenShard:
    """Write a shard in a worker of a Ray cluster. Repeated calls write the same bytes.

    Raises:
        Unavailable: This machine sees another base than the others, or cannot write to the folder of the shards.
        ReimagenError: The base is damaged.
    """
    try:
        return _writer(work).write(shard)
    except OSError as error:
        raise Unavailable(f"cannot write to {shard.path} on {socket.gethostname()}: {error.strerror}") from error


def data_folders(base: KnowledgeBase) -> tuple[str, ...]:
    """Return the data folders of a base or of the parts of a union. They change with every rewrite of the base.

    The revision does not suffice, because a rewritten base may have the same revision.
    """
    return (base.built.folder, *(part.folder for part in base.parts))


@lru_cache(maxsize=1)
def _writer(work: Work) -> ShardWriter:
    """Return the shard writer of this process, which opens the base only once."""
    try:
        base = KnowledgeBase.open(work.knowledge_base)
    except NotFound as error:
        raise Unavailable(f"{error.message}, on {socket.gethostname()}: all machines must share it") from error
    if (data_folders(base), base.manifest.revision) != (work.data_folders, work.revision):
        base.close()
        raise Unavailable(f"{work.knowledge_base} has changed, or differs on {socket.gethostname()}")
    # Ray gives each worker one core.
    return ShardWriter(base, work.captions, 1, work.options, lambda _: None)
