"""Building a knowledge base from a source."""

import hashlib
import secrets
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_retriever.folder_lock import LOCK, LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.index.analysis import Analysis
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.manifest import (
    FORMAT_VERSION,
    Manifest,
    manifest_stamp,
    read_manifest,
    write_manifest,
)
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.picture import PictureFacts
from reimagen_retriever.knowledge_base.shards import ShardWriter
from reimagen_retriever.knowledge_base.sources import Source
from reimagen_retriever.knowledge_base.syncing import sync_folder

_REPORTED_ONE_BY_ONE = 20


@dataclass(frozen=True)
class BuildReport:
    """What a finished build took in and left out."""

    manifest: Manifest
    rejected: list[Rejected]
    """The first few of them; `manifest.rejected` counts all."""


def build(source: Source, knowledge_base: Path, analysis: Analysis | None = None) -> BuildReport:
    """Builds a knowledge base, or replaces the one that is there once the new one is whole.

    Entries that can't be taken are reported and counted, never fatal. Until the last step a reader sees the old base,
    or none; an interrupted build leaves a folder that the next build removes.

    Args:
        source: What to take in.
        knowledge_base: The folder.
        analysis: Of the texts; Pyserini's for English unless given.

    Raises:
        InvalidArgument: nothing could be taken from the source, or the folder holds other things.
        ReimagenError: the folder is being written to, or cannot be.
    """
    refuse_foreign_folder(knowledge_base)
    knowledge_base.mkdir(parents=True, exist_ok=True)
    with locked(knowledge_base, Holder(work="build"), LOCK_WAIT_SECONDS):
        remove_leftovers(knowledge_base)
        name = f"data-{secrets.token_hex(8)}"
        folder = knowledge_base / name
        try:
            report = _write(source, folder, analysis or Analysis())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_manifest(knowledge_base, report.manifest)
        # Services that still read the old base have its files open, which outlive their names.
        remove_leftovers(knowledge_base)
        return report


def _write(source: Source, folder: Path, analysis: Analysis) -> BuildReport:
    licenses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    rejected: list[Rejected] = []
    seen: set[bytes] = set()
    content = hashlib.sha256(f"format {FORMAT_VERSION}\n{analysis.model_dump_json()}\n".encode())
    with (
        ShardWriter(folder / "shards") as shards,
        IndexWriter(folder / "lucene", analysis) as index,
        tqdm(
            total=source.size() or None,
            desc="building",
            unit=" pairs",
            dynamic_ncols=True,
            disable=None,
            mininterval=0.5,
        ) as progress,
    ):
        for entry in source.entries():
            taken = _checked(entry, seen)
            if isinstance(taken, Rejected):
                reasons[taken.reason] += 1
                if len(rejected) < _REPORTED_ONE_BY_ONE:
                    rejected.append(taken)
                    progress.write(_sentence(taken), file=sys.stderr)
            else:
                stored = shards.add(*taken)
                index.add(stored)
                licenses[stored.license] += 1
                content.update(stored.model_dump_json().encode())
            progress.update()
        index.commit({})
    if not licenses:
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        raise InvalidArgument(f"nothing could be taken from it ({counts or 'it is empty'})", field="source")
    for made in (folder / "shards", folder / "lucene", folder):
        sync_folder(made)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        generation=content.hexdigest()[:16],
        folder=folder.name,
        created=datetime.now(UTC),
        analysis=analysis,
        pairs=licenses.total(),
        licenses=dict(licenses.most_common()),
        rejected=dict(reasons.most_common()),
        shards=shards.shards,
    )
    return BuildReport(manifest, rejected)


def _checked(entry: SourcePair | Rejected, seen: set[bytes]) -> tuple[SourcePair, PictureFacts] | Rejected:
    if isinstance(entry, Rejected):
        return entry
    try:
        pair, facts = checked_pair(entry)
        # Digests, because a large base has more ids than memory.
        digest = hashlib.blake2b(pair.id.encode(), digest_size=12).digest()
        if digest in seen:
            raise RejectedError("duplicate id", pair.id)
        seen.add(digest)
        return pair, facts
    except RejectedError as error:
        return Rejected(entry.place, error.reason, error.detail)


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


def remove_leftovers(knowledge_base: Path) -> None:
    """Removes what interrupted builds and replaced bases left."""
    try:
        current = read_manifest(knowledge_base).folder
    except NotFound:
        current = ""
    except InvalidArgument:
        return  # Nobody can tell what belongs to a base of another version; it stays until the new one is whole.
    for leftover in knowledge_base.glob("data-*"):
        if leftover.name != current:
            shutil.rmtree(leftover)
