"""Rewrite a base without the images of pairs that were removed or replaced."""

import hashlib
import secrets
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reimagen_common.errors import Damaged
from reimagen_common.progress import progress_bar
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.dedup.duplicates import DuplicateFinder
from reimagen_retriever.dedup.fingerprint_index import (
    ADDED,
    AddedFingerprints,
    FingerprintWriter,
    KeptFingerprints,
)
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.checksums import checksums
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.fingerprint import FOLDER, fingerprint
from reimagen_retriever.knowledge_base.folder_lock import LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.leftovers import remove_leftovers
from reimagen_retriever.knowledge_base.manifest import FORMAT_VERSION, Manifest, read_manifest, write_manifest
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair
from reimagen_retriever.knowledge_base.shards import ShardWriter
from reimagen_retriever.knowledge_base.syncing import sync_folder, writing_to
from reimagen_retriever.vectors.carry import carry_vectors


def compact(knowledge_base: Path) -> Manifest:
    """Rewrite a base as a build of its current pairs would.

    Searches continue, in other processes too, and switch to the new files once these are complete.

    Returns:
        The new manifest.

    Raises:
        NotFound: There is no complete knowledge base in the folder.
        Unavailable: Another process writes to the base, or the folder is not writable.
        ReimagenError: The base is damaged; damage must not be copied.
    """
    read_manifest(knowledge_base)
    with writing_to(knowledge_base), locked(knowledge_base, Holder(work="compact"), LOCK_WAIT_SECONDS):
        remove_leftovers(knowledge_base)
        folder = knowledge_base / f"data-{secrets.token_hex(8)}"
        base = KnowledgeBase.open(knowledge_base)
        try:
            base.refuse_damage()
            manifest = _rewrite(base, knowledge_base / base.built.folder, folder)
            write_manifest(knowledge_base, manifest)
        except DamagedError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise Damaged(f"{knowledge_base} is damaged, run `verify` for details: {error}") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            base.close()
        remove_leftovers(knowledge_base)
        return manifest


def _rewrite(base: KnowledgeBase, old_folder: Path, folder: Path) -> Manifest:
    analysis = base.manifest.analysis
    licenses: Counter[str] = Counter()
    # The same as in a build, so that the same pairs in the same order have the same revision.
    content = hashlib.sha256(f"format {FORMAT_VERSION}\n{analysis.model_dump_json()}\n".encode())
    finder, known = DuplicateFinder(), _known_fingerprints(base, old_folder)
    folder.mkdir()
    fingerprints = FingerprintWriter(folder, base.manifest.pairs)
    with (
        ShardWriter(folder / "shards") as shards,
        IndexWriter(folder / "lucene", analysis) as index,
        progress_bar(base.manifest.pairs, "compacting", "pairs") as progress,
    ):
        for document in base.index.in_order():
            old = base.index.pair(document)
            pair = _read(base, old)
            its_fingerprint = known.of(old.position) or fingerprint(pair.image).tobytes()
            pair = replace(pair, duplicate_of=finder.find(pair.id, its_fingerprint))
            stored = shards.add(pair, ImageFacts(old.media_type, old.width, old.height))
            fingerprints.add(stored.id, stored.position, its_fingerprint)
            if stored.sha256 != old.sha256:
                raise DamagedError(f"the image of {old.id} is not what was added")
            index.add(stored)
            licenses[stored.license] += 1
            content.update(stored.model_dump_json().encode())
            progress.update()
        index.merge()
        index.commit({})
    fingerprints_folder = fingerprints.finish()
    for written in (folder / "shards", folder / "lucene", fingerprints_folder, folder):
        sync_folder(written)
    update = {
        "revision": content.hexdigest()[:16],
        "folder": folder.name,
        "created": datetime.now(UTC),
        "pairs": licenses.total(),
        "licenses": dict(licenses.most_common()),
        "shards": shards.shards,
        "vectors": carry_vectors(base, folder),
        "fingerprints": checksums(fingerprints_folder),
    }
    return base.built.model_copy(update=update)


def _known_fingerprints(base: KnowledgeBase, folder: Path) -> KeptFingerprints:
    """Return the intact fingerprints of the base; the others must be recomputed."""
    intact = bool(base.built.fingerprints) and base.built.fingerprints.items() <= checksums(folder / FOLDER).items()
    return KeptFingerprints(AddedFingerprints(folder).read(base.appended.get(ADDED, 0)), built=intact)


def _read(base: KnowledgeBase, pair: StoredPair) -> SourcePair:
    return SourcePair(
        location=pair.id,
        id=pair.id,
        caption=pair.caption,
        image=base.images.read(pair),
        source=pair.source,
        license=pair.license,
        unsafe=pair.unsafe,
    )
