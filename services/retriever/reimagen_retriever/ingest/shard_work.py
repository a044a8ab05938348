"""The task of a Ray worker in a build: check one shard of the source and write one shard of the base."""

import secrets
import shutil
import socket
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from reimagen_common.errors import Unavailable
from reimagen_retriever.ingest.checking import checked
from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.ingest.journal import Part, Record
from reimagen_retriever.knowledge_base.pair import Rejected
from reimagen_retriever.knowledge_base.shards import Shard, ShardWriter
from reimagen_retriever.knowledge_base.sources.webdataset import WebDatasetSource
from reimagen_retriever.knowledge_base.syncing import sync_folder

UNFINISHED = "unfinished"
"""Folder in the data folder for shards that workers have not finished; finished shards are moved to their place."""
REPORTED_ONE_BY_ONE = 20


@dataclass(frozen=True)
class ShardWork:
    """The parameters that are the same for all shards."""

    source: WebDatasetSource
    folder: Path
    """Data folder of the base that is being built."""
    filters: SourceFilters


@dataclass(frozen=True)
class NumberedShard:
    """A shard of the source, and its number in the base."""

    number: int
    shard: str
    stamps: list[str]
    """Stamps of the shard on the machine where the build was started."""

    def __str__(self) -> str:
        return self.shard


@dataclass(frozen=True)
class WrittenShard:
    """The result of a task."""

    record: Record
    """Record of a build of this shard alone, before selection by id and near-duplicates."""
    rejected: list[Rejected]
    """The first rejections; the record counts all."""


def write_shard(work: ShardWork, item: NumberedShard) -> WrittenShard:
    """Write a shard of the base with all valid pairs of a shard of the source; every run writes the same bytes.

    Raises:
        Unavailable: This machine has another source or base folder than the others, or cannot write to the base.
    """
    _check_shared(work, item)
    unfinished = work.folder / UNFINISHED / f"{item.number:05d}-{secrets.token_hex(8)}"
    try:
        unfinished.mkdir()
        shard, written = _write(work, item, unfinished)
        if shard:
            shards = work.folder / "shards"
            shards.mkdir(exist_ok=True)
            (unfinished / shard.name).replace(shards / shard.name)
            sync_folder(shards)
        return written
    except OSError as error:
        raise Unavailable(f"cannot write to {work.folder} on {socket.gethostname()}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(work: ShardWork, item: NumberedShard, folder: Path) -> tuple[Shard | None, WrittenShard]:
    part, rejected, entries = Part(), list[Rejected](), 0
    source = work.source.of_shard(item.shard)
    with (
        ShardWriter(folder, pairs_per_shard=sys.maxsize, first=item.number) as writer,
        # Ray gives each worker one core.
        closing(checked(source.entries(), work.filters, cores=1)) as results,
    ):
        for result in results:
            entries += 1
            if isinstance(result, Rejected):
                part.reject(result.reason)
                rejected += [result] if len(rejected) < REPORTED_ONE_BY_ONE else []
            else:
                part.add(writer.add(*result), result[1].fingerprint)
        shard = writer.finish_shard()
    return shard, WrittenShard(part.record(entries, shard, complete=True), rejected)


def _check_shared(work: ShardWork, item: NumberedShard) -> None:
    """Raise an error if this machine lacks the shared folders.

    Otherwise the source's shards would count as broken, or the base's would be written to another place.
    """
    if not (work.folder / UNFINISHED).is_dir():
        raise Unavailable(f"{work.folder} does not exist on {socket.gethostname()}: all machines must share it")
    stamps = work.source.stamps(item.shard)
    if stamps != item.stamps:
        raise Unavailable(
            f"{item.shard} is not the same on {socket.gethostname()} ({', '.join(stamps)}) as where the build was "
            f"started ({', '.join(item.stamps)}): all machines must share the source"
        )
