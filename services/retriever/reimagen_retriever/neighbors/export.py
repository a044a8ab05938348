"""Write the pairs of a knowledge base with their neighbors as training shards, see `shards`.

An interrupted run resumes with the missing shards. `neighbors.json` records the inputs of the shards.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import InvalidArgument, first_fault
from reimagen_common.progress import progress_bar
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cluster import connected, spread
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.knowledge_base.folder_lock import LOCK, Holder, locked
from reimagen_retriever.knowledge_base.syncing import write_whole, writing_to
from reimagen_retriever.neighbors.captions import read_captions
from reimagen_retriever.neighbors.evaluation_sets import EvaluationSet, refuse_overlap
from reimagen_retriever.neighbors.shards import (
    Options,
    ShardStats,
    ShardToWrite,
    ShardWriter,
    Work,
    WrittenShard,
    data_folders,
    stats_path,
    write_shard,
)

SHARD_PAIRS = 1_000
_ORIGIN = "neighbors.json"


class Origin(BaseModel):
    """The inputs of an export. Equal inputs give equal bytes."""

    model_config = ConfigDict(frozen=True)

    format_version: int = Field(default=1, description="Version of the layout of the folder.")
    revision: str = Field(description="Revision of the knowledge base.")
    k: int = Field(description="Maximum number of neighbors per pair.")
    relevance: Relevance = Field(description="What the caption of a neighbor must share with the query.")
    size: int | None = Field(description="Side of the stored squares in pixels; null: the original files.")
    excluded: list[str] = Field(description="Digests of the evaluation sets that the base was compared with.")


def export(
    knowledge_base: Path,
    out: Path,
    options: Options,
    excluded: Sequence[EvaluationSet] = (),
    ray: str | None = None,
) -> ShardStats:
    """Write the missing shards, so that `out` holds all pairs of the base.

    Args:
        knowledge_base: The folder of the base.
        out: The folder of the shards.
        options: The options of the export.
        excluded: Evaluation sets that the base must not overlap.
        ray: The address of a Ray cluster whose machines share both folders, or `local`. None: no cluster.

    Raises:
        InvalidArgument: `out` holds other files or shards of another base or other options; the base overlaps an
            evaluation set; no image can be read; numba or Ray is not installed.
        NotFound: The folder holds no complete knowledge base.
        ReimagenError: The base is damaged, `out` cannot be written to or is locked by another export, or Ray does not
            answer.
    """
    if find_spec("numba") is None:
        raise InvalidArgument("numba is not installed: pip install 'reimagen-retriever[neighbors]'")
    base = KnowledgeBase.open(knowledge_base)
    try:
        base.refuse_damage()
        origin = Origin(
            revision=base.manifest.revision,
            k=options.k,
            relevance=options.relevance,
            size=options.size,
            excluded=sorted(each.digest for each in excluded),
        )
        resuming = _check_out(out, origin)
        if not resuming:
            for each in excluded:
                refuse_overlap(base, each)
        out.mkdir(parents=True, exist_ok=True)
        with writing_to(out), locked(out, Holder(work="neighbors")):
            if not resuming:
                write_whole(out / _ORIGIN, origin.model_dump_json(indent=2).encode() + b"\n")
            return _shards(base, knowledge_base, out, options, ray)
    finally:
        base.close()


def _check_out(out: Path, origin: Origin) -> bool:
    """Return whether the folder holds an unfinished or finished export of this origin."""
    path = out / _ORIGIN
    if out.exists() and not out.is_dir():
        raise InvalidArgument(f"{out} is not a folder", field="OUT")
    if path.exists():
        try:
            existing = Origin.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise InvalidArgument(f"{path} is broken, name a new folder: {first_fault(error)}", field="OUT") from error
        if existing != origin:
            pairs = zip(existing, origin, strict=True)
            changed = ", ".join(f"{name} {old!r}, not {new!r}" for (name, old), (_, new) in pairs if old != new)
            raise InvalidArgument(f"{out} holds shards made from {changed}; name a new folder", field="OUT")
        return True
    if out.exists() and any(each.name != LOCK for each in out.iterdir()):
        raise InvalidArgument(f"{out} holds files other than shards; name a new or empty folder", field="OUT")
    return False


def _shards(base: KnowledgeBase, knowledge_base: Path, out: Path, options: Options, ray: str | None) -> ShardStats:
    for unfinished in out.glob("*.part"):
        unfinished.unlink()
    documents = base.index.in_order()
    shards = [
        ShardToWrite(out.resolve() / f"{number:05d}.tar", first, documents[first : first + SHARD_PAIRS])
        for number, first in enumerate(range(0, len(documents), SHARD_PAIRS))
    ]
    missing = [shard for shard in shards if not stats_path(shard.path).exists()]
    if missing:
        _write(base, knowledge_base, documents, missing, options, ray)
    stats = (ShardStats.model_validate_json(stats_path(shard.path).read_bytes()) for shard in shards)
    total = sum(stats, ShardStats())
    if not total.count:
        raise InvalidArgument(f"no image can be read: {total.broken:,} are broken", field="KB_DIR")
    return total


def _write(
    base: KnowledgeBase,
    knowledge_base: Path,
    documents: Sequence[int],
    missing: Sequence[ShardToWrite],
    options: Options,
    ray: str | None,
) -> None:
    with ExitStack() as stack:
        if ray is not None:
            stack.enter_context(connected(ray))
        captions = read_captions(base.index, documents)
        left = sum(len(shard.documents) for shard in missing)
        progress = stack.enter_context(progress_bar(len(documents), "neighbors", "pairs", done=len(documents) - left))
        written: Iterator[WrittenShard]
        if ray is None:
            writer = stack.enter_context(ShardWriter(base, captions, os.cpu_count() or 1, options, progress.update))
            written = map(writer.write, missing)
        else:
            revision = base.manifest.revision
            work = Work(knowledge_base.resolve(), data_folders(base), revision, options, captions)
            written = (result for _, result in spread(write_shard, work, missing))
        for shard, result in zip(missing, written, strict=True):
            for broken in result.broken:
                progress.write(broken, file=sys.stderr)
            if ray is not None:
                progress.update(len(shard.documents))
