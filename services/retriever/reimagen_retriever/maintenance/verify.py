"""Verify every pair and file of a base against its checksums."""

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, cast

from reimagen_common.errors import Damaged
from reimagen_common.progress import progress_bar
from reimagen_retriever.base import KnowledgeBase, fingerprint_files, vector_files
from reimagen_retriever.dedup.fingerprint_index import ADDED, RECORD_BYTES
from reimagen_retriever.index.dense_delta import FLOAT16
from reimagen_retriever.knowledge_base.appended import read_appended
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.integrity import Damage, damages, lucene_files
from reimagen_retriever.knowledge_base.manifest import Manifest, read_any, read_manifest
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.shards import Shard
from reimagen_retriever.knowledge_base.union import united


def verify(knowledge_base: Path) -> tuple[Manifest, list[Damage]]:
    """Verify a whole base, or all parts of a union: checksums of files, locations in the tars, and counts.

    A service may write meanwhile; its later commits are not checked.

    Returns:
        The manifest of what was checked, and all damage found.

    Raises:
        NotFound: There is no complete knowledge base in the folder.
        InvalidArgument: The base is a mirror, or parts of a union have an id in common.
        Damaged: The base cannot be opened, although no file is damaged.
    """
    union = read_any(knowledge_base)
    if isinstance(union, Manifest):
        return _verify_base(knowledge_base)
    manifests, found = list[Manifest](), list[Damage]()
    for part in union.parts:
        manifest, part_damages = _verify_base(knowledge_base / part.folder)
        manifests.append(manifest)
        found += [Damage(f"{part.folder}, {damage.location}", damage.what) for damage in part_damages]
    if not found:
        KnowledgeBase.open(knowledge_base).close()
    return united(manifests, union.duplicates or {}), found


def _verify_base(knowledge_base: Path) -> tuple[Manifest, list[Damage]]:
    built = read_manifest(knowledge_base)
    found = list(damages(vector_files(knowledge_base, built)))
    try:
        base = KnowledgeBase.open(knowledge_base, dense=not found)
    except Damaged:
        found += damages(fingerprint_files(knowledge_base, built))
        found += damages(lucene_files(knowledge_base / built.lucene_folder))
        if found:
            return built, found
        raise
    try:
        found += damages(base.fingerprint_files)
        if index_damages := list(damages(base.index_files)):
            # The pairs in a damaged index are not reliable.
            return base.manifest, found + index_damages
        found += _appended(knowledge_base / built.folder, base)
        found += _pairs(knowledge_base, base)
        return base.manifest, found
    except DamagedError as error:
        raise Damaged(f"{knowledge_base} is damaged, build it again: {error}") from error
    finally:
        base.close()


def _pairs(knowledge_base: Path, base: KnowledgeBase) -> Iterator[Damage]:
    """Check every pair, in the order of the shards, and the counts of all."""
    manifest = base.manifest
    ids: Counter[bytes] = Counter()
    licenses: Counter[str] = Counter()
    with progress_bar(manifest.pairs, "verifying", "pairs") as progress:
        pairs = (base.index.pair(document) for document in base.index.in_order())
        for name, group in groupby(pairs, key=lambda pair: pair.shard):
            members, unreadable = _members(
                knowledge_base / manifest.shards_folder, next((s for s in manifest.shards if s.name == name), None)
            )
            if unreadable:
                yield Damage(name, unreadable)
            for pair in group:
                ids[hashlib.blake2b(pair.id.encode(), digest_size=12).digest()] += 1
                licenses[pair.license] += 1
                for problem in _damages(base, pair, members):
                    yield Damage(f"{pair.shard}, {pair.id}", problem)
                if base.dense and not base.dense.vectors_of([pair.id]):
                    yield Damage(
                        f"{pair.shard}, {pair.id}", "it has no vector; run `vectors` again to rebuild the vectors"
                    )
                progress.update()
    yield from _counts(manifest, ids, licenses)


def _damages(base: KnowledgeBase, pair: StoredPair, members: dict[int, int] | None) -> Iterator[str]:
    if members is not None and members.get(pair.offset) != pair.length:
        yield "no member of the tar is where its image should be"
    try:
        digest = hashlib.sha256(base.images.read(pair)).hexdigest()
    except (DamagedError, OSError) as error:
        yield f"its image can't be read: {error}"
        return
    except KeyError:
        yield "its shard does not belong to the base"
        return
    if digest != pair.sha256:
        yield "its image is not what was added"


def _appended(folder: Path, base: KnowledgeBase) -> Iterator[Damage]:
    """Check the vectors and fingerprints of pairs that were added since the build."""
    if base.manifest.vectors:
        added = base.manifest.vectors.added
        size = FLOAT16.itemsize * base.manifest.vectors.dimension
        for record in read_appended(folder / added, size, 0, base.appended.get(added, 0)):
            if not record.intact:
                problem = "its vector is not what was added; run `vectors` again to rebuild the vectors"
                yield Damage(f"{added}, {record.id}", problem)
    for record in read_appended(folder / ADDED, RECORD_BYTES, 0, base.appended.get(ADDED, 0)):
        if not record.intact:
            problem = "its image's fingerprint is not what was added; `compact` rebuilds the fingerprints"
            yield Damage(f"{ADDED}, {record.id}", problem)


def _counts(manifest: Manifest, ids: Counter[bytes], licenses: Counter[str]) -> Iterator[Damage]:
    repeated = sum(count > 1 for count in ids.values())
    if repeated:
        yield Damage("index", f"{repeated:,} ids occur more than once")
    if ids.total() != manifest.pairs:
        yield Damage("index", f"it has {ids.total():,} pairs, the last commit says {manifest.pairs:,}")
    if dict(licenses) != manifest.licenses:
        yield Damage("index", "the counts of licenses are not those of the last commit")


def _members(folder: Path, shard: Shard | None) -> tuple[dict[int, int] | None, str]:
    """Return the lengths of a shard's members by offset, up to its committed end; or None and what is wrong with it."""
    if shard is None:
        return None, "does not belong to the base"
    members = {}
    try:
        with (
            (folder / shard.name).open("rb") as file,
            tarfile.open(fileobj=cast(IO[bytes], _Committed(file, shard.size)), mode="r:") as tar,
        ):
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]
                members[member.offset_data] = member.size
    except (tarfile.TarError, OSError) as error:
        return None, f"is not a complete tar file: {error}"
    pairs = len(members) // 3
    if pairs != shard.pairs:
        return None, f"has {pairs:,} pairs, the last commit says {shard.pairs:,}"
    return members, ""


class _Committed:
    """A view of a file up to the size in the last commit, without bytes that a writer is appending."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()
