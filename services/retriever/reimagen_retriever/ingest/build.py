"""Building a knowledge base from a source."""

import hashlib
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_common.progress import progress_bar
from reimagen_retriever.cluster import connected, spread
from reimagen_retriever.dedup.fingerprint_index import FingerprintWriter
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.ingest.checking import checked
from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.ingest.journal import Journal, Part, is_whole
from reimagen_retriever.ingest.selection import Selection
from reimagen_retriever.ingest.shard_work import (
    REPORTED_ONE_BY_ONE,
    UNFINISHED,
    NumberedShard,
    ShardWork,
    write_shard,
)
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.checksums import checksums
from reimagen_retriever.knowledge_base.folder_lock import LOCK, LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.knowledge_base.leftovers import remove_leftovers
from reimagen_retriever.knowledge_base.manifest import (
    FORMAT_VERSION,
    Manifest,
    manifest_stamp,
    write_manifest,
)
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError
from reimagen_retriever.knowledge_base.shards import PAIRS_PER_SHARD, Shard, ShardWriter
from reimagen_retriever.knowledge_base.sources import Source
from reimagen_retriever.knowledge_base.sources.webdataset import WebDatasetSource
from reimagen_retriever.knowledge_base.syncing import sync_folder, writing_to


@dataclass(frozen=True)
class BuildReport:
    """What a finished build took in and left out."""

    manifest: Manifest
    rejected: list[Rejected]
    """The first few of them that this call met; `manifest.rejected` counts all."""
    duplicates: int
    """How many pairs are marked as near-duplicates of an earlier one."""


class BuildOptions(BaseModel):
    """What a base is besides its source."""

    model_config = ConfigDict(frozen=True)

    analysis: Analysis = Field(default=Analysis(), description="How texts are searched.")
    filters: SourceFilters = Field(default=SourceFilters(), description="What a pair must be to be taken in.")
    drop_duplicates: bool = Field(default=False, description="Whether near-duplicates are left out, not marked.")
    pairs_per_shard: int = Field(default=PAIRS_PER_SHARD, gt=0, description="After each an interrupted build goes on.")


def build(
    source: Source,
    knowledge_base: Path,
    options: BuildOptions = BuildOptions(),  # noqa: B008
    ray: str | None = None,
) -> BuildReport:
    """Builds a knowledge base, or replaces the one that is there once the new one is whole.

    Entries that can't be taken are reported and counted, never fatal. Until the last step a reader sees the old base,
    or none. An interrupted build goes on after its last full shard when it is called with the same source and options;
    with others its remains are removed.

    Args:
        source: What to take in.
        knowledge_base: The folder.
        options: What to make of it.
        ray: A Ray cluster's address, to spread over, or `local`; its machines share the source and the folder.

    Raises:
        InvalidArgument: nothing could be taken from the source, or the folder holds other things; or Ray is not
            installed, or the source has no shards to spread.
        ReimagenError: the folder is being written to, or cannot be; or the source's store does not answer, or Ray.
    """
    if ray is not None and not isinstance(source, WebDatasetSource):
        raise InvalidArgument("spreads over shards: SOURCE must be WebDataset shards (*.tar)", field="ray")
    refuse_foreign_folder(knowledge_base)
    knowledge_base.mkdir(parents=True, exist_ok=True)
    with writing_to(knowledge_base), locked(knowledge_base, Holder(work="build"), LOCK_WAIT_SECONDS):
        origin = _origin(source, options, "as the source's" if ray is not None else "full")
        folder = Journal.find(knowledge_base, origin) or knowledge_base / f"data-{secrets.token_hex(8)}"
        remove_leftovers(knowledge_base, folder.name)
        journal = Journal(folder) if folder.exists() else Journal.start(folder, origin)
        try:
            rejected = _take_in(source, folder, journal, options, ray)
            report = _finished(folder, journal, options, rejected)
        except BaseException:
            if not len(journal):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        write_manifest(knowledge_base, report.manifest)
        # Services that still read the old base have its files open, which outlive their names.
        remove_leftovers(knowledge_base)
        return report


def _origin(source: Source, options: BuildOptions, shards: str) -> str:
    """Changes whenever the base would."""
    digest = hashlib.sha256(f"format {FORMAT_VERSION}\n{options.model_dump_json()}\nshards {shards}\n".encode())
    try:
        for line in source.identity():
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    except RejectedError as error:
        raise InvalidArgument(str(error), field="source") from error
    return digest.hexdigest()


def _take_in(source: Source, folder: Path, journal: Journal, options: BuildOptions, ray: str | None) -> list[Rejected]:
    """Writes the shards that the journal does not have yet; returns the first entries that were left out."""
    selection = Selection(drop_duplicates=options.drop_duplicates)
    shards: list[Shard] = []
    entries = 0
    for record in journal.records():
        entries = record.entries
        shards += [record.shard] if record.shard else []
        selection.remember(record)
        if record.complete:
            return []
    _remove_other_shards(folder, shards)
    with progress_bar(source.size() or None, "building", "pairs", done=entries) as progress:
        told = RejectionLog(progress)
        if ray is None:
            _take_in_here(source, folder, journal, options, selection, shards, entries, told)
        else:
            assert isinstance(source, WebDatasetSource)
            _take_in_spread(source, folder, journal, options, selection, entries, told, ray)
    return told.rejected


def _take_in_here(
    source: Source,
    folder: Path,
    journal: Journal,
    options: BuildOptions,
    selection: Selection,
    shards: Sequence[Shard],
    entries: int,
    told: "RejectionLog",
) -> None:
    part = Part()
    with (
        ShardWriter(folder / "shards", options.pairs_per_shard, shards) as writer,
        closing(checked(source.entries(entries), options.filters)) as results,
    ):
        for result in results:
            entries += 1
            told.progress.update()
            if isinstance(result, Rejected):
                part.reject(result.reason)
                told.reject(result)
                continue
            pair, facts = result
            original = selection.choose(pair.location, pair.id, facts.fingerprint)
            if isinstance(original, Rejected):
                part.reject(original.reason)
                told.reject(original)
                continue
            part.add(writer.add(replace(pair, duplicate_of=original), facts), facts.fingerprint)
            if writer.full:
                journal.append(part.record(entries, writer.finish_shard(), complete=False))
                part = Part()
        _report_left_over(source, part, told)
        journal.append(part.record(entries, writer.finish_shard(), complete=True))


def _take_in_spread(
    source: WebDatasetSource,
    folder: Path,
    journal: Journal,
    options: BuildOptions,
    selection: Selection,
    entries: int,
    told: "RejectionLog",
    ray: str,
) -> None:
    """Workers check and write, each a shard of the source; here is chosen what is taken of it, shard after shard."""
    unfinished = folder / UNFINISHED
    unfinished.mkdir(exist_ok=True)
    work = ShardWork(source, folder.resolve(), options.filters)
    numbered = [
        NumberedShard(number, shard, source.stamps(shard))
        for number, shard in enumerate(source.shards)
        if number >= len(journal)
    ]
    with connected(ray):
        for item, written in spread(write_shard, work, numbered):
            if written.record.shard and not is_whole(
                folder / "shards" / written.record.shard.name, written.record.shard.size
            ):
                raise Unavailable(
                    f"{item.shard} was written where {folder} is another one: all machines need to share it"
                )
            part = Part()
            for reason, count in written.record.rejected.items():
                part.reject(reason, count)
            for rejected in written.rejected:
                told.reject(rejected)
            for pair, fingerprint in written.record.pairs_and_fingerprints():
                original = selection.choose(f"{item.shard}/{pair.id}", pair.id, fingerprint)
                if isinstance(original, Rejected):
                    part.reject(original.reason)
                    told.reject(original)
                else:
                    part.add(pair.model_copy(update={"duplicate_of": original}), fingerprint)
            entries += written.record.entries
            told.progress.update(written.record.entries)
            last = item.number == len(source.shards) - 1
            if last:
                _report_left_over(source, part, told)
            journal.append(part.record(entries, written.record.shard, complete=last))
    shutil.rmtree(unfinished)


def _report_left_over(source: Source, part: Part, told: "RejectionLog") -> None:
    for left in source.left_over():
        part.reject(left.reason)
        told.reject(left)


def _finished(folder: Path, journal: Journal, options: BuildOptions, rejected: list[Rejected]) -> BuildReport:
    """Indexes what the shards hold."""
    licenses, reasons = Counter[str](), Counter[str]()
    duplicates = 0
    content = hashlib.sha256(f"format {FORMAT_VERSION}\n{options.analysis.model_dump_json()}\n".encode())
    shards: list[Shard] = []
    pairs = 0
    for record in journal.records():
        reasons.update(record.rejected)
        shards += [record.shard] if record.shard else []
        pairs += len(record.pairs)
    if not pairs:
        journal.remove()
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        raise InvalidArgument(f"nothing could be taken from it ({counts or 'it is empty'})", field="source")
    shutil.rmtree(folder / "lucene", ignore_errors=True)
    fingerprints = FingerprintWriter(folder, pairs)
    with (
        IndexWriter(folder / "lucene", options.analysis) as index,
        progress_bar(pairs, "indexing", "pairs") as progress,
    ):
        for record in journal.records():
            for stored, fingerprint in record.pairs_and_fingerprints():
                index.add(stored)
                fingerprints.add(stored.id, stored.position, fingerprint)
                licenses[stored.license] += 1
                duplicates += bool(stored.duplicate_of)
                content.update(stored.model_dump_json().encode())
            progress.update(len(record.pairs))
        index.merge()
        index.commit({})
    journal.remove()
    kept = fingerprints.finish()
    for made in (folder / "shards", folder / "lucene", kept, folder):
        sync_folder(made)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        revision=content.hexdigest()[:16],
        folder=folder.name,
        created=datetime.now(UTC),
        analysis=options.analysis,
        pairs=pairs,
        licenses=dict(licenses.most_common()),
        rejected=dict(reasons.most_common()),
        shards=shards,
        fingerprints=checksums(kept),
    )
    return BuildReport(manifest, rejected, duplicates)


class RejectionLog:
    """What was left out, told as it comes, but no more than a few."""

    def __init__(self, progress: "tqdm[NoReturn]") -> None:
        self.progress = progress
        self.rejected: list[Rejected] = []

    def reject(self, rejected: Rejected) -> None:
        """Count a rejected pair, and print the first few."""
        if len(self.rejected) < REPORTED_ONE_BY_ONE:
            self.rejected.append(rejected)
            self.progress.write(_sentence(rejected), file=sys.stderr)


def _sentence(rejected: Rejected) -> str:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    return f"left out {rejected.location}: {rejected.reason}{detail}".encode("utf-8", "backslashreplace").decode()


def refuse_foreign_folder(knowledge_base: Path) -> None:
    """A mistyped path must not mix a knowledge base into somebody's images."""
    if knowledge_base.exists() and not knowledge_base.is_dir():
        raise InvalidArgument(f"{knowledge_base} is not a folder", field="KB_DIR")
    if manifest_stamp(knowledge_base) or not knowledge_base.exists() or (knowledge_base / LOCK).exists():
        return
    if any(knowledge_base.iterdir()):
        raise InvalidArgument(
            f"{knowledge_base} holds other things than a knowledge base; name a new or empty folder", field="KB_DIR"
        )


def _remove_other_shards(folder: Path, shards: list[Shard]) -> None:
    """Removes the shard that an interrupted build was at."""
    for path in (folder / "shards").glob("*.tar"):
        if path.name not in {shard.name for shard in shards}:
            path.unlink()
