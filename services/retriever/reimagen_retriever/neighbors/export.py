"""Writes a knowledge base's pairs with their neighbors as training shards.

A shard is a WebDataset tar; a sample is `KEY.jpg` (or .png, .webp), `KEY.txt`, `KEY.json`, and its neighbors
`KEY.neighbor0.jpg`, `KEY.neighbor0.txt`, `KEY.neighbor1.jpg` ... KEY is the pair's number in the base. Beside a shard
`00000.tar` lies `00000_stats.json`, written last: it says that the shard is whole, and a run that was killed goes on
after it. `neighbors.json` says what the shards were made from.
"""

import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.folder_lock import LOCK, Holder, locked
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.shards import EXTENSIONS
from reimagen_retriever.knowledge_base.syncing import sync_folder
from reimagen_retriever.neighbors.evaluation_sets import EvaluationSet, refuse_overlap
from reimagen_retriever.neighbors.finding import Found, NeighborFinder
from reimagen_retriever.neighbors.pixels import cropped, padded

SHARD_PAIRS = 1_000
_BATCH = 64
_KEPT_NEIGHBORS = 256
_ORIGIN = "neighbors.json"


class Origin(BaseModel):
    """What shards are made from: the same gives the same bytes."""

    model_config = ConfigDict(frozen=True)

    format_version: int = Field(default=1, description="Of the layout of the folder.")
    generation: str = Field(description="Of the knowledge base.")
    k: int = Field(description="Neighbors of a pair, at most.")
    minimum_overlap: float = Field(description="Of query and text, for a pair to be a neighbor.")
    size: int | None = Field(description="Side of the pictures in pixels; null: their own files.")
    excluded: list[str] = Field(description="Digests of the evaluation sets that the base was compared with.")


class ShardStats(BaseModel):
    """What one shard holds; summed up, what all of them hold."""

    model_config = ConfigDict(frozen=True)

    count: int = Field(default=0, description="Samples.")
    without_neighbors: int = Field(default=0, description="Of them, those that have none.")
    with_all_neighbors: int = Field(default=0, description="Of them, those that have k.")
    near_duplicates: int = Field(default=0, description="Pairs that were no neighbors, for they show the same picture.")
    broken: int = Field(default=0, description="Pairs left out because their pictures can't be read.")

    def __add__(self, other: "ShardStats") -> "ShardStats":
        mine, theirs = self.model_dump(), other.model_dump()
        return ShardStats(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Options:
    """What the user decides."""

    k: int
    minimum_overlap: float
    size: int | None = None
    """Side of squares in pixels; None leaves the pictures as they are."""


def export(knowledge_base: Path, out: Path, options: Options, excluded: Sequence[EvaluationSet] = ()) -> ShardStats:
    """Writes the shards that are missing; `out` then holds all pairs of the base.

    Raises:
        InvalidArgument: `out` holds other things, or shards of another base or of other options; the base overlaps an
            evaluation set; no pair has a picture that can be read.
        NotFound: there is no finished knowledge base in the folder.
        ReimagenError: the base is damaged, `out` cannot be written to, or another export does it.
    """
    base = KnowledgeBase.open(knowledge_base)
    try:
        origin = Origin(
            generation=base.manifest.generation,
            k=options.k,
            minimum_overlap=options.minimum_overlap,
            size=options.size,
            excluded=sorted(each.digest for each in excluded),
        )
        begun = _check_out(out, origin)
        if not begun:
            for each in excluded:
                refuse_overlap(base, each)
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, Holder(work="neighbors")):
            if not begun:
                _write(out / _ORIGIN, origin.model_dump_json(indent=2).encode() + b"\n")
            return _shards(base, out, options)
    finally:
        base.close()


def _check_out(out: Path, origin: Origin) -> bool:
    """Whether the folder has an export of this origin in it, begun or done."""
    path = out / _ORIGIN
    if out.exists() and not out.is_dir():
        raise InvalidArgument(f"{out} is not a folder", field="OUT")
    if path.exists():
        try:
            there = Origin.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise InvalidArgument(f"{path} is broken, name a new folder: {error}", field="OUT") from error
        if there != origin:
            pairs = zip(there, origin, strict=True)
            changed = ", ".join(f"{name} {old!r}, not {new!r}" for (name, old), (_, new) in pairs if old != new)
            raise InvalidArgument(f"{out} holds shards made from {changed}; name a new folder", field="OUT")
        return True
    if out.exists() and any(each.name != LOCK for each in out.iterdir()):
        raise InvalidArgument(f"{out} holds other things than shards; name a new or empty folder", field="OUT")
    return False


def _shards(base: KnowledgeBase, out: Path, options: Options) -> ShardStats:
    for unfinished in out.glob("*.part"):
        unfinished.unlink()
    documents = base.index.in_order()
    shards = [
        (out / f"{number:05d}.tar", list(enumerate(documents[first : first + SHARD_PAIRS], start=first)))
        for number, first in enumerate(range(0, len(documents), SHARD_PAIRS))
    ]
    done = sum(len(numbered) for path, numbered in shards if _stats_path(path).exists())
    total = ShardStats()
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(
            total=len(documents),
            initial=done,
            desc="neighbors",
            unit=" pairs",
            dynamic_ncols=True,
            disable=None,
            mininterval=0.5,
        ) as progress,
    ):
        finder = NeighborFinder(base, options.k, options.minimum_overlap, pool)
        writer = _ShardWriter(base, finder, pool, options, progress)
        for path, numbered in shards:
            if not _stats_path(path).exists():
                stats = writer.write(path, numbered)
                _write(_stats_path(path), stats.model_dump_json().encode() + b"\n")
            total += ShardStats.model_validate_json(_stats_path(path).read_bytes())
    if not total.count:
        raise InvalidArgument(f"no pair has a picture that can be read: {total.broken:,} are broken", field="KB_DIR")
    return total


class _ShardWriter:
    def __init__(
        self,
        base: KnowledgeBase,
        finder: NeighborFinder,
        pool: ThreadPoolExecutor,
        options: Options,
        progress: "tqdm[NoReturn]",
    ) -> None:
        self._base = base
        self._finder = finder
        self._pool = pool
        self._options = options
        self._progress = progress
        # Pairs that stand together have neighbors in common.
        self._neighbor = lru_cache(_KEPT_NEIGHBORS)(self._read_neighbor)

    def write(self, path: Path, numbered: Sequence[tuple[int, int]]) -> ShardStats:
        """Writes one shard, under its name only once it is whole, or none where no picture can be read.

        Args:
            path: of the shard.
            numbered: the numbers of pairs in the base, and of their documents in the index.
        """
        total = ShardStats()
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for first in range(0, len(numbered), _BATCH):
                    batch = numbered[first : first + _BATCH]
                    found = self._finder.find([self._base.index.pair(document) for _, document in batch])
                    samples = self._pool.map(lambda each: list(self._members(each)), found)
                    for (number, _), each, members in zip(batch, found, samples, strict=True):
                        total += self._stats(each)
                        for extension, data in members:
                            member = tarfile.TarInfo(f"{number:08d}.{extension}")
                            member.size = len(data)
                            tar.addfile(member, io.BytesIO(data))
                    self._progress.update(len(batch))
            file.flush()
            os.fsync(file.fileno())
        if total.count:
            unfinished.replace(path)
        else:
            unfinished.unlink()
        return total

    def _stats(self, found: Found) -> ShardStats:
        if found.broken:
            self._progress.write(f"left out {found.pair.id}: broken picture ({found.broken})", file=sys.stderr)
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
        yield "txt", found.pair.contents.encode()
        notes = {**_note(found.pair), "neighbors": [_note(neighbor) for neighbor in found.neighbors]}
        yield "json", json.dumps(notes, ensure_ascii=False).encode()
        for rank, neighbor in enumerate(found.neighbors):
            extension, data = self._neighbor(neighbor)
            yield f"neighbor{rank}.{extension}", data
            yield f"neighbor{rank}.txt", neighbor.contents.encode()

    def _read_neighbor(self, pair: StoredPair) -> tuple[str, bytes]:
        data, size = self._base.images.read(pair), self._options.size
        return (EXTENSIONS[pair.media_type], data) if size is None else padded(data, size)


def _stats_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.stem}_stats.json")


def _note(pair: StoredPair) -> dict[str, str]:
    return {"id": pair.id, "source": pair.source, "license": pair.license}


def _write(path: Path, data: bytes) -> None:
    """Writes a file that is whole or not there, whatever happens."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)
