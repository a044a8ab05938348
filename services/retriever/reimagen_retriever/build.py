"""Building a knowledge base from a source."""

import hashlib
import secrets
import shutil
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_retriever.folder_lock import LOCK, LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.index.analysis import Analysis
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.intake.checking import Checked, checked
from reimagen_retriever.intake.filters import SourceFilters
from reimagen_retriever.intake.journal import Journal, Record
from reimagen_retriever.knowledge_base.manifest import (
    FORMAT_VERSION,
    Manifest,
    manifest_stamp,
    read_manifest,
    write_manifest,
)
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair, StoredPair
from reimagen_retriever.knowledge_base.picture import PictureFacts
from reimagen_retriever.knowledge_base.shards import PAIRS_PER_SHARD, Shard, ShardWriter
from reimagen_retriever.knowledge_base.sources import Source
from reimagen_retriever.knowledge_base.syncing import sync_folder
from reimagen_retriever.neighbors.duplicates import DuplicateFinder

_REPORTED_ONE_BY_ONE = 20
_REASONS = 100
"""More of them are counted as one: some hold what a server said."""


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


def build(source: Source, knowledge_base: Path, options: BuildOptions = BuildOptions()) -> BuildReport:  # noqa: B008
    """Builds a knowledge base, or replaces the one that is there once the new one is whole.

    Entries that can't be taken are reported and counted, never fatal. Until the last step a reader sees the old base,
    or none. An interrupted build goes on after its last full shard when it is called with the same source and options;
    with others its remains are removed.

    Args:
        source: What to take in.
        knowledge_base: The folder.
        options: What to make of it.

    Raises:
        InvalidArgument: nothing could be taken from the source, or the folder holds other things.
        ReimagenError: the folder is being written to, or cannot be; or the source's store does not answer.
    """
    refuse_foreign_folder(knowledge_base)
    knowledge_base.mkdir(parents=True, exist_ok=True)
    with locked(knowledge_base, Holder(work="build"), LOCK_WAIT_SECONDS):
        origin = _origin(source, options)
        folder = Journal.find(knowledge_base, origin) or knowledge_base / f"data-{secrets.token_hex(8)}"
        remove_leftovers(knowledge_base, folder.name)
        journal = Journal(folder) if folder.exists() else Journal.start(folder, origin)
        try:
            rejected = _take_in(source, folder, journal, options)
            report = _finished(folder, journal, options, rejected)
        except BaseException:
            if not len(journal):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        write_manifest(knowledge_base, report.manifest)
        # Services that still read the old base have its files open, which outlive their names.
        remove_leftovers(knowledge_base)
        return report


def _origin(source: Source, options: BuildOptions) -> str:
    """Changes whenever the base would."""
    digest = hashlib.sha256(f"format {FORMAT_VERSION}\n{options.model_dump_json()}\n".encode())
    try:
        for line in source.identity():
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    except RejectedError as error:
        raise InvalidArgument(str(error), field="source") from error
    return digest.hexdigest()


def _take_in(source: Source, folder: Path, journal: Journal, options: BuildOptions) -> list[Rejected]:
    """Writes the shards that the journal does not have yet; returns the first entries that were left out."""
    seen, duplicates = _Seen(), DuplicateFinder()
    shards: list[Shard] = []
    entries = 0
    for record in journal.records():
        entries = record.entries
        shards += [record.shard] if record.shard else []
        for pair, fingerprint in record.pairs_and_fingerprints():
            seen.add(pair.id)
            if not pair.duplicate_of:
                duplicates.remember(pair.id, fingerprint)
        if record.complete:
            return []
    _remove_other_shards(folder, shards)
    part = _Part()
    told: list[Rejected] = []
    with (
        ShardWriter(folder / "shards", options.pairs_per_shard, shards) as writer,
        closing(checked(source.entries(entries), options.filters)) as results,
        _progress("building", source.size(), entries) as progress,
    ):
        for result in results:
            taken = _new(result, seen, duplicates, options)
            entries += 1
            progress.update()
            if isinstance(taken, Rejected):
                part.reject(taken.reason)
                if len(told) < _REPORTED_ONE_BY_ONE:
                    told.append(taken)
                    progress.write(_sentence(taken), file=sys.stderr)
                continue
            part.add(writer.add(*taken), taken[1].fingerprint)
            if writer.full:
                journal.append(part.record(entries, writer.finish_shard(), complete=False))
                part = _Part()
        journal.append(part.record(entries, writer.finish_shard(), complete=True))
    return told


def _new(
    result: Checked, seen: "_Seen", duplicates: DuplicateFinder, options: BuildOptions
) -> tuple[SourcePair, PictureFacts] | Rejected:
    if isinstance(result, Rejected):
        return result
    pair, facts = result
    if pair.id in seen:
        return Rejected(pair.place, "duplicate id", pair.id)
    original = duplicates.find(pair.id, facts.fingerprint)
    if original and options.drop_duplicates:
        return Rejected(pair.place, "near-duplicate", f"of {original}")
    seen.add(pair.id)
    return replace(pair, duplicate_of=original), facts


def _finished(folder: Path, journal: Journal, options: BuildOptions, rejected: list[Rejected]) -> BuildReport:
    """Indexes what the shards hold."""
    licenses, reasons = Counter[str](), Counter[str]()
    duplicates = 0
    content = hashlib.sha256(f"format {FORMAT_VERSION}\n{options.analysis.model_dump_json()}\n".encode())
    shards: list[Shard] = []
    for record in journal.records():
        reasons.update(record.rejected)
        shards += [record.shard] if record.shard else []
    pairs = sum(shard.pairs for shard in shards)
    if not pairs:
        journal.remove()
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        raise InvalidArgument(f"nothing could be taken from it ({counts or 'it is empty'})", field="source")
    shutil.rmtree(folder / "lucene", ignore_errors=True)
    with IndexWriter(folder / "lucene", options.analysis) as index, _progress("indexing", pairs) as progress:
        for record in journal.records():
            for stored in record.pairs:
                index.add(stored)
                licenses[stored.license] += 1
                duplicates += bool(stored.duplicate_of)
                content.update(stored.model_dump_json().encode())
            progress.update(len(record.pairs))
        index.commit({})
    journal.remove()
    for made in (folder / "shards", folder / "lucene", folder):
        sync_folder(made)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        generation=content.hexdigest()[:16],
        folder=folder.name,
        created=datetime.now(UTC),
        analysis=options.analysis,
        pairs=pairs,
        licenses=dict(licenses.most_common()),
        rejected=dict(reasons.most_common()),
        shards=shards,
    )
    return BuildReport(manifest, rejected, duplicates)


class _Seen:
    """The ids so far: digests of them, because a large base has more ids than memory."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, identifier: str) -> bool:
        return self._digest(identifier) in self._digests

    def add(self, identifier: str) -> None:
        self._digests.add(self._digest(identifier))

    @staticmethod
    def _digest(identifier: str) -> bytes:
        return hashlib.blake2b(identifier.encode(), digest_size=12).digest()


class _Part:
    """What became of the entries since the last record."""

    def __init__(self) -> None:
        self._pairs: list[StoredPair] = []
        self._fingerprints = bytearray()
        self._reasons = Counter[str]()

    def add(self, pair: StoredPair, fingerprint: bytes) -> None:
        self._pairs.append(pair)
        self._fingerprints += fingerprint

    def reject(self, reason: str) -> None:
        known = reason in self._reasons or len(self._reasons) < _REASONS
        self._reasons[reason if known else "other reasons"] += 1

    def record(self, entries: int, shard: Shard | None, *, complete: bool) -> Record:
        return Record(
            entries=entries,
            complete=complete,
            shard=shard,
            pairs=self._pairs,
            fingerprints=bytes(self._fingerprints),
            rejected=dict(self._reasons),
        )


def _progress(work: str, total: int, done: int = 0) -> "tqdm[NoReturn]":
    return tqdm(
        total=total or None,
        initial=done,
        desc=work,
        unit=" pairs",
        dynamic_ncols=True,
        disable=None,
        mininterval=0.5,
    )


def _sentence(rejected: Rejected) -> str:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    return f"left out {rejected.place}: {rejected.reason}{detail}".encode("utf-8", "backslashreplace").decode()


def refuse_foreign_folder(knowledge_base: Path) -> None:
    """A mistyped path must not mix a knowledge base into somebody's pictures."""
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


def remove_leftovers(knowledge_base: Path, unfinished: str = "") -> None:
    """Removes what replaced bases and interrupted builds left, but for the one that goes on."""
    try:
        current = read_manifest(knowledge_base).folder
    except NotFound:
        current = ""
    except InvalidArgument:
        return  # Nobody can tell what belongs to a base of another version; it stays until the new one is whole.
    for leftover in knowledge_base.glob("data-*"):
        if leftover.name not in {current, unfinished}:
            shutil.rmtree(leftover)
