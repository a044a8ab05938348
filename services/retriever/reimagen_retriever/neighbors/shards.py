"""A training shard: pairs with their neighbors.

A shard is a WebDataset tar; a sample is `KEY.jpg` (or .png, .webp), `KEY.txt`, `KEY.json`, and its neighbors
`KEY.neighbor0.jpg`, `KEY.neighbor0.txt`, `KEY.neighbor1.jpg` ... KEY is the pair's number in the base. Beside a shard
`00000.tar` lies `00000_stats.json`, written last: it says that the shard is whole.
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
_KEPT_NEIGHBORS = 256


class ShardStats(BaseModel):
    """What one shard holds; summed up, what all of them hold."""

    model_config = ConfigDict(frozen=True)

    count: int = Field(default=0, description="Samples.")
    without_neighbors: int = Field(default=0, description="Of them, those that have none.")
    with_all_neighbors: int = Field(default=0, description="Of them, those that have k.")
    near_duplicates: int = Field(default=0, description="Pairs that were no neighbors, for they show the same image.")
    broken: int = Field(default=0, description="Pairs left out because their images can't be read.")

    def __add__(self, other: "ShardStats") -> "ShardStats":
        mine, theirs = self.model_dump(), other.model_dump()
        return ShardStats(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Options:
    """What the user decides."""

    k: int
    relevance: Relevance
    size: int | None = None
    """Side of squares in pixels; None leaves the images as they are."""


@dataclass(frozen=True)
class ShardToWrite:
    """Pairs that follow one another in the base."""

    path: Path
    first: int
    """The first pair's number in the base."""
    documents: Sequence[int]
    """The numbers of the pairs in the index."""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class WrittenShard:
    """What became of it."""

    stats: ShardStats
    broken: list[str]
    """A sentence on each pair that was left out."""


class ShardWriter:
    """Writes shards of a base's pairs.

    Args:
        base: An open knowledge base.
        captions: Of the base.
        threads: How many search, and decode images.
        options: What to write.
        advanced: Called with the number of pairs that have been looked at.
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
        # Pairs that stand together have neighbors in common.
        self._neighbor = lru_cache(_KEPT_NEIGHBORS)(self._read_neighbor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def write(self, shard: ShardToWrite) -> WrittenShard:
        """Writes a shard and its statistics, or the latter alone where no image can be read."""
        total, broken = ShardStats(), list[str]()
        # Of its own name: a machine that is thought to be dead may still write.
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
    """Where a shard's statistics are, which say that it is whole."""
    return shard.with_name(f"{shard.stem}_stats.json")


def _note(pair: StoredPair) -> dict[str, str]:
    return {"id": pair.id, "source": pair.source, "license": pair.license}


@dataclass(frozen=True)
class Work:
    """What the workers of a Ray cluster write shards of."""

    knowledge_base: Path
    data_folders: tuple[str, ...]
    """Of the base that the documents are numbers in, see `data_folders`."""
    revision: str
    options: Options
    captions: Captions = field(repr=False, compare=False)
    """The workers of a machine share their arrays' memory."""


def write_shard(work: Work, shard: ShardToWrite) -> WrittenShard:
    """What a worker of a Ray cluster does: writes one of the shards; the same bytes whenever it is called.

    Raises:
        Unavailable: this machine does not see the base that the others see, or cannot write to the shards' folder.
        ReimagenError: the base is damaged.
    """
    try:
        return _writer(work).write(shard)
    except OSError as error:
        raise Unavailable(f"cannot write to {shard.path} on {socket.gethostname()}: {error.strerror}") from error


def data_folders(base: KnowledgeBase) -> tuple[str, ...]:
    """Of a base, or of a union's parts: what is written anew has others, though it may be of the same revision."""
    return (base.built.folder, *(part.folder for part in base.parts))


@lru_cache(maxsize=1)
def _writer(work: Work) -> ShardWriter:
    """A process writes many shards of the base that it has opened."""
    try:
        base = KnowledgeBase.open(work.knowledge_base)
    except NotFound as error:
        raise Unavailable(f"{error.message}, on {socket.gethostname()}: all machines need to share it") from error
    if (data_folders(base), base.manifest.revision) != (work.data_folders, work.revision):
        base.close()
        raise Unavailable(f"{work.knowledge_base} has changed meanwhile, or is another one on {socket.gethostname()}")
    # Ray gives each worker one core.
    return ShardWriter(base, work.captions, 1, work.options, lambda _: None)
