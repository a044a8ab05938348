"""Build a knowledge base from a source."""

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
    """The result of a finished build."""

    manifest: Manifest
    rejected: list[Rejected]
    """The first rejections of this run; `manifest.rejected` counts all."""
    duplicates: int
    """Number of pairs marked as near-duplicates of an earlier one."""


class BuildOptions(BaseModel):
    """The options of a build besides its source."""

    model_config = ConfigDict(frozen=True)

    analysis: Analysis = Field(default=Analysis(), description="Text analysis and BM25 parameters.")
    filters: SourceFilters = Field(default=SourceFilters(), description="Filters that a pair must pass.")
    drop_duplicates: bool = Field(
        default=False, description="Whether near-duplicates are left out; by default they are marked."
    )
    pairs_per_shard: int = Field(
        default=PAIRS_PER_SHARD,
        gt=0,
        description="Pairs in a full shard; an interrupted build resumes after its last full shard.",
    )


def build(
    source: Source,
    knowledge_base: Path,
    options: BuildOptions = BuildOptions(),  # noqa: B008
    ray: str | None = None,
) -> BuildReport:
    """Build a knowledge base, and replace an existing one when the new one is complete.

    Invalid entries are reported and counted; they do not end the build. Until the last step readers see the old base,
    or none. An interrupted build resumes after its last full shard if it is run with the same source and options; with
    others, its files are removed.

    Args:
        source: The source of the pairs.
        knowledge_base: Folder of the base.
        options: Options of the build.
        ray: Address of a Ray cluster for distributed work, or `local`; its machines share the source and the folder.

    Raises:
        InvalidArgument: The source has no valid pair, the folder has other files, Ray is not installed, or the source
            is not WebDataset shards, which `ray` requires.
        ReimagenError: Another process writes to the folder, the folder is not writable, or the source's store or Ray
            does not answer.
    """
    if ray is not None and not isinstance(source, WebDatasetSource):
        raise InvalidArgument("requires WebDataset shards (*.tar) as SOURCE", field="ray")
    refuse_foreign_folder(knowledge_base)
    knowledge_base.mkdir(parents=True, exist_ok=True)
    with writing_to(knowledge_base), locked(knowledge_base, Holder(work="build"), LOCK_WAIT_SECONDS):
        origin = _origin(source, options, "as the source's" if ray is not None else "full")
        folder = Journal.find(knowledge_base, origin) or knowledge_base / f"data-{secrets.token_hex(8)}"
        remove_leftovers(knowledge_base, folder.name)
        journal = Journal(folder) if folder.exists() else Journal.start(folder, origin)
        try:
            rejected = _ingest(source, folder, journal, options, ray)
            report = _finish(folder, journal, options, rejected)
        except BaseException:
            if not len(journal):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        write_manifest(knowledge_base, report.manifest)
        # Services that still serve the old base keep its files open, so they can be deleted.
        remove_leftovers(knowledge_base)
        return report


def _origin(source: Source, options: BuildOptions, shards: str) -> str:
    """Return a digest of everything that determines the base."""
    digest = hashlib.sha256(f"format {FORMAT_VERSION}\n{options.model_dump_json()}\nshards {shards}\n".encode())
    try:
        for line in source.identity():
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    except RejectedError as error:
        raise InvalidArgument(str(error), field="source") from error
    return digest.hexdigest()


def _ingest(source: Source, folder: Path, journal: Journal, options: BuildOptions, ray: str | None) -> list[Rejected]:
    """Write the shards that are not in the journal yet; return the first rejections."""
    selection = Selection(drop_duplicates=options.drop_duplicates)
    shards: list[Shard] = []
    entries = 0
    for record in journal.records():
        entries = record.entries
        shards += [record.shard] if record.shard else []
        selection.replay(record)
        if record.complete:
            return []
    _remove_other_shards(folder, shards)
    with progress_bar(source.size() or None, "building", "pairs", done=entries) as progress:
        log = RejectionLog(progress)
        if ray is None:
            _ingest_locally(source, folder, journal, options, selection, shards, entries, log)
        else:
            assert isinstance(source, WebDatasetSource)
            _ingest_with_ray(source, folder, journal, options, selection, entries, log, ray)
    return log.rejected


def _ingest_locally(
    source: Source,
    folder: Path,
    journal: Journal,
    options: BuildOptions,
    selection: Selection,
    shards: Sequence[Shard],
    entries: int,
    log: "RejectionLog",
) -> None:
    part = Part()
    with (
        ShardWriter(folder / "shards", options.pairs_per_shard, shards) as writer,
        closing(checked(source.entries(entries), options.filters)) as results,
    ):
        for result in results:
            entries += 1
            log.progress.update()
            if isinstance(result, Rejected):
                part.reject(result.reason)
                log.reject(result)
                continue
            pair, facts = result
            original = selection.choose(pair.location, pair.id, facts.fingerprint)
            if isinstance(original, Rejected):
                part.reject(original.reason)
                log.reject(original)
                continue
            part.add(writer.add(replace(pair, duplicate_of=original), facts), facts.fingerprint)
            if writer.full:
                journal.append(part.record(entries, writer.finish_shard(), complete=False))
                part = Part()
        _report_left_over(source, part, log)
        journal.append(part.record(entries, writer.finish_shard(), complete=True))


def _ingest_with_ray(
    source: WebDatasetSource,
    folder: Path,
    journal: Journal,
    options: BuildOptions,
    selection: Selection,
    entries: int,
    log: "RejectionLog",
    ray: str,
) -> None:
    """Distribute the source's shards: workers check and write them, and this process selects the pairs in order."""
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
                    f"{item.shard} was written to another folder than {folder} here: all machines must share the folder"
                )
            part = Part()
            for reason, count in written.record.rejected.items():
                part.reject(reason, count)
            for rejected in written.rejected:
                log.reject(rejected)
            for pair, fingerprint in written.record.pairs_and_fingerprints():
                original = selection.choose(f"{item.shard}/{pair.id}", pair.id, fingerprint)
                if isinstance(original, Rejected):
                    part.reject(original.reason)
                    log.reject(original)
                else:
                    part.add(pair.model_copy(update={"duplicate_of": original}), fingerprint)
            entries += written.record.entries
            log.progress.update(written.record.entries)
            last = item.number == len(source.shards) - 1
            if last:
                _report_left_over(source, part, log)
            journal.append(part.record(entries, written.record.shard, complete=last))
    shutil.rmtree(unfinished)


def _report_left_over(source: Source, part: Part, log: "RejectionLog") -> None:
    for left in source.left_over():
        part.reject(left.reason)
        log.reject(left)


def _finish(folder: Path, journal: Journal, options: BuildOptions, rejected: list[Rejected]) -> BuildReport:
    """Index the pairs of the shards and return the report."""
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
        raise InvalidArgument(f"it has no valid pair ({counts or 'it is empty'})", field="source")
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
    fingerprints_folder = fingerprints.finish()
    for written in (folder / "shards", folder / "lucene", fingerprints_folder, folder):
        sync_folder(written)
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
        fingerprints=checksums(fingerprints_folder),
    )
    return BuildReport(manifest, rejected, duplicates)


class RejectionLog:
    """Log of rejections, which prints and keeps the first few."""

    def __init__(self, progress: "tqdm[NoReturn]") -> None:
        self.progress = progress
        self.rejected: list[Rejected] = []

    def reject(self, rejected: Rejected) -> None:
        """Print and keep a rejection, unless there were many before."""
        if len(self.rejected) < REPORTED_ONE_BY_ONE:
            self.rejected.append(rejected)
            self.progress.write(_sentence(rejected), file=sys.stderr)


def _sentence(rejected: Rejected) -> str:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    return f"left out {rejected.location}: {rejected.reason}{detail}".encode("utf-8", "backslashreplace").decode()


def refuse_foreign_folder(knowledge_base: Path) -> None:
    """Raise an error if the folder has other files, so that a mistyped path does not mix a base into them.

    Raises:
        InvalidArgument: The path is not a folder, or the folder has other files than a knowledge base.
    """
    if knowledge_base.exists() and not knowledge_base.is_dir():
        raise InvalidArgument(f"{knowledge_base} is not a folder", field="KB_DIR")
    if manifest_stamp(knowledge_base) or not knowledge_base.exists() or (knowledge_base / LOCK).exists():
        return
    if any(knowledge_base.iterdir()):
        raise InvalidArgument(
            f"{knowledge_base} has other files than a knowledge base; name a new or empty folder", field="KB_DIR"
        )


def _remove_other_shards(folder: Path, shards: list[Shard]) -> None:
    """Remove shards that are not in the journal, which an interrupted build left unfinished."""
    for path in (folder / "shards").glob("*.tar"):
        if path.name not in {shard.name for shard in shards}:
            path.unlink()
