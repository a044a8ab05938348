"""Write changes to an existing knowledge base: first images and vectors, then captions, then one commit."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import Damaged, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.dedup.fingerprint_index import ADDED, AddedFingerprints, KeptFingerprints, record
from reimagen_retriever.dedup.relabel import marked
from reimagen_retriever.index.dense_delta import FLOAT16
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.appended import AppendedWriter
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.fingerprint import FOLDER
from reimagen_retriever.knowledge_base.folder_lock import LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.manifest import Changes, Vectors, mark_commit, read_manifest
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair
from reimagen_retriever.knowledge_base.shards import LiveShardWriter
from reimagen_retriever.knowledge_base.syncing import sync_folder


@dataclass(frozen=True)
class Vector:
    """A pair's vector and its encoder."""

    values: NDArray[np.float32]
    encoder_digest: str
    of: Literal["texts", "images"]


@dataclass(frozen=True)
class Put:
    """A change that adds a checked pair, or replaces the pair of the same id."""

    pair: SourcePair
    facts: ImageFacts
    vector: Vector | None = field(default=None, compare=False)
    """Vector of the pair, see `live.vectors`; None if the base has no vectors or has the identical pair."""


@dataclass(frozen=True)
class Remove:
    """A change that removes the pair of an id, if there is one."""

    id: str


Change = Put | Remove


class Outcome(Enum):
    """The result of a change."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    """The identical pair existed already."""
    REMOVED = "removed"
    UNKNOWN = "unknown"
    """No pair had the id to remove."""


class Outdated(Unavailable):
    """The base has changed since the change was prepared; only its caller must send it again."""


class LiveWriter:
    """Writer of changes to a base, which holds the base's lock until it is closed; not thread-safe.

    Changes are atomic and durable. Images are appended to a shard, and fingerprints and vectors to separate files.
    After these are synced, one Lucene commit publishes captions, counts and the locations of all that. If a writer is
    killed or fails, the next one truncates the files to the last commit. After an error a writer must be closed.

    Args:
        folder: Folder of the knowledge base.
        holder: The description of this writer for other processes.
        wait_seconds: How long to wait for the lock.
        known: `known` of a writer that was closed after a commit, so that fingerprints need not be read again.

    Raises:
        NotFound: There is no complete knowledge base in the folder.
        Unavailable: Another process writes to the base, or the folder is not writable.
        ReimagenError: The base is damaged.
    """

    def __init__(
        self,
        folder: Path,
        holder: Holder,
        wait_seconds: float = LOCK_WAIT_SECONDS,
        known: AddedFingerprints | None = None,
    ) -> None:
        read_manifest(folder)
        with ExitStack() as opened, _translated_errors(folder):
            opened.enter_context(locked(folder, holder, wait_seconds))
            self._base = KnowledgeBase.open(folder, dense=False)
            opened.callback(lambda: self._base.close())
            self._built = self._base.built
            lucene, shards = folder / self._built.lucene_folder, folder / self._built.shards_folder
            # A killed writer may have made its last commit visible without syncing it.
            sync_folder(lucene)
            self._index = opened.enter_context(IndexWriter(lucene, self._built.analysis))
            self._shards = LiveShardWriter(shards, self._base.manifest.shards)
            opened.callback(self._shards.close)
            data, appended = folder / self._built.folder, self._base.appended
            if known is None or known.folder != data or known.size > appended.get(ADDED, 0):
                known = AddedFingerprints(data)
            self.known = known.read(appended.get(ADDED, 0))
            """Fingerprints read or added by this writer, for the next writer after this one is closed."""
            self._stored_fingerprints = KeptFingerprints(known, built=bool(self._built.fingerprints))
            if not (data / FOLDER).exists():  # A base from before fingerprints were stored.
                (data / FOLDER).mkdir()
                sync_folder(data)
            self._fingerprints = AppendedWriter(data / ADDED, appended.get(ADDED, 0))
            opened.callback(self._fingerprints.close)
            self._vectors: AppendedWriter | None = None
            if self._built.vectors:
                added = self._built.vectors.added
                self._vectors = AppendedWriter(data / added, appended.get(added, 0))
                opened.callback(self._vectors.close)
            self._folder = folder
            self._opened = opened.pop_all()

    @property
    def revision(self) -> str:
        """The revision of the last commit."""
        return self._base.manifest.revision

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply all changes in one commit; when this returns they are durable and visible to new readers of the base.

        Raises:
            Unavailable: The changes cannot be written, or a pair lacks the vector that it needs; nothing is changed.
        """
        before: dict[str, StoredPair | None] = {}
        after: dict[str, StoredPair | None] = {}
        puts: dict[str, Put] = {}
        outcomes = []
        with _translated_errors(self._folder):
            for change in changes:
                identifier = change.pair.id if isinstance(change, Put) else change.id
                if identifier not in before:
                    before[identifier] = after[identifier] = self._base.index.get(identifier)
                outcome, after[identifier] = self._apply(change, after[identifier])
                outcomes.append(outcome)
                if isinstance(change, Put) and outcome is not Outcome.UNCHANGED:
                    puts[identifier] = change
            changed = {identifier: pair for identifier, pair in after.items() if pair != before[identifier]}
            if changed:
                self._commit(before, changed, puts)
        return outcomes

    def close(self) -> None:
        """Release the base."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _apply(self, change: Change, old: StoredPair | None) -> tuple[Outcome, StoredPair | None]:
        if isinstance(change, Remove):
            return (Outcome.REMOVED if old else Outcome.UNKNOWN), None
        if old and is_same(old, change.pair):
            return Outcome.UNCHANGED, old
        return (Outcome.UPDATED if old else Outcome.ADDED), self._shards.add(change.pair, change.facts)

    def _commit(
        self, before: Mapping[str, StoredPair | None], changed: Mapping[str, StoredPair | None], puts: Mapping[str, Put]
    ) -> None:
        new = sorted((pair for pair in changed.values() if pair), key=lambda pair: pair.position)
        shards = self._shards.sync()
        appended = self._append(new, puts)
        licenses = Counter(self._base.manifest.licenses)
        for identifier, pair in changed.items():
            old = before[identifier]
            if old:
                licenses[old.license] -= 1
            if pair:
                licenses[pair.license] += 1
        for identifier, pair in marked(self._base.index, self._stored_fingerprints, before, changed).items():
            if pair:
                self._index.put(pair)
            else:
                self._index.remove(identifier)
        last = Changes.read(self._base.index.notes)
        sequence = last.sequence + 1 if last else 1
        changes = Changes(
            sequence=sequence,
            # Random, because a reader may have seen a commit that a crash undoes: no later one may have its revision.
            revision=f"{self._built.revision}-{sequence}-{secrets.token_hex(4)}",
            pairs=licenses.total(),
            licenses=dict((+licenses).most_common()),
            shards=shards[len(self._built.shards) :],
            appended=appended,
        )
        self._index.commit(changes.notes())
        mark_commit(self._folder / self._built.folder)
        refreshed = self._base.refreshed()
        if refreshed:
            self._base.close()
            self._base = refreshed

    def _append(self, new: Sequence[StoredPair], puts: Mapping[str, Put]) -> dict[str, int]:
        """Append the fingerprints and vectors of new pairs; return the valid size of each file, in bytes."""
        for pair in new:
            fingerprint = puts[pair.id].facts.fingerprint
            self._stored_fingerprints.add(pair.id, pair.position, fingerprint)
            self._fingerprints.add(pair.id, record(pair.position, fingerprint))
        self.known.size = self._fingerprints.sync()
        appended = {ADDED: self.known.size}
        if self._vectors and self._built.vectors:
            for pair in new:
                vector = _checked_vector(puts[pair.id], self._built.vectors)
                self._vectors.add(pair.id, vector.values.astype(FLOAT16).tobytes())
            appended[self._built.vectors.added] = self._vectors.sync()
        return appended


def _checked_vector(put: Put, info: Vectors) -> Vector:
    vector = put.vector
    if vector is None or (vector.encoder_digest, vector.of) != (info.encoder_digest, info.of):
        raise Outdated(
            f"the pair {put.pair.id!r} or the vectors of this knowledge base have changed since its vector was "
            "computed; send the pair again",
            retry_after=0.1,
        )
    return vector


def is_same(stored: StoredPair, pair: SourcePair) -> bool:
    """Return whether a checked pair is identical to the stored one."""
    existing = (stored.caption, stored.source, stored.license, stored.unsafe, stored.sha256)
    return existing == (pair.caption, pair.source, pair.license, pair.unsafe, hashlib.sha256(pair.image).hexdigest())


@contextmanager
def _translated_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}: {error.strerror}; nothing was changed") from error
    except DamagedError as error:
        raise Damaged(f"{folder} is damaged, run `verify` for details: {error}") from error
