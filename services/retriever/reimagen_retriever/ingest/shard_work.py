"""What a worker of a Ray cluster does for a build: it checks a shard of the source and writes one of the base."""

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
"""Of the base's folder: where workers write what gets its own name once it is whole."""
REPORTED_ONE_BY_ONE = 20


@dataclass(frozen=True)
class ShardWork:
    """What all shards have in common."""

    source: WebDatasetSource
    folder: Path
    """Of the base that is being built."""
    filters: SourceFilters


@dataclass(frozen=True)
class NumberedShard:
    """A shard of the source, and its number in the base."""

    number: int
    shard: str
    stamps: list[str]
    """As whoever starts the build sees it."""

    def __str__(self) -> str:
        return self.shard


@dataclass(frozen=True)
class WrittenShard:
    """What became of it."""

    record: Record
    """As if the build were of this shard alone; the pairs are yet to be chosen from."""
    rejected: list[Rejected]
    """The first few entries that were left out; the record counts all."""


def write_shard(work: ShardWork, item: NumberedShard) -> WrittenShard:
    """Writes the base's shard with all pairs of the source's that can be taken; the same bytes whenever it is called.

    Raises:
        Unavailable: this machine does not see the source or the base that the others see, or cannot write to it.
    """
    _check_shared(work, item)
    unfinished = work.folder / UNFINISHED / f"{item.number:05d}-{secrets.token_hex(8)}"
    try:
        unfinished.mkdir()
        shard, written = _written(work, item, unfinished)
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


def _written(work: ShardWork, item: NumberedShard, folder: Path) -> tuple[Shard | None, WrittenShard]:
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
    """A machine without the shared folders must not make the source's shards count as broken, nor write beside."""
    if not (work.folder / UNFINISHED).is_dir():
        raise Unavailable(f"{work.folder} is not there on {socket.gethostname()}: all machines need to share it")
    stamps = work.source.stamps(item.shard)
    if stamps != item.stamps:
        raise Unavailable(
            f"{item.shard} is not the same on {socket.gethostname()} ({', '.join(stamps)}) as where the build was "
            f"started ({', '.join(item.stamps)}): all machines need to share the source"
        )
