"""Checking every pair of a base against what was written."""

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, cast

from reimagen_common.errors import ReimagenError
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.dense_added import FLOAT16
from reimagen_retriever.knowledge_base.appended import read_appended
from reimagen_retriever.knowledge_base.checksums import checksums
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.manifest import Manifest, Vectors, read_any, read_manifest
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.shards import Shard
from reimagen_retriever.neighbors.kept import ADDED, FOLDER, RECORD_BYTES
from reimagen_retriever.upkeep.progress import progress_bar


@dataclass(frozen=True)
class Damage:
    """Something that is not as it should be."""

    place: str
    what: str


def verify(knowledge_base: Path) -> tuple[Manifest, list[Damage]]:
    """Reads a whole base, or all bases of a union: files against their checksums, places against the tars, the counts.

    Returns:
        What was checked, and all damage found. A service may go on writing: what it commits later is not looked at.

    Raises:
        NotFound: there is no finished knowledge base in the folder.
        InvalidArgument: it is what is kept here of a base in a store; parts of a union have an id in common.
        ReimagenError: the base cannot even be opened.
    """
    union = read_any(knowledge_base)
    if isinstance(union, Manifest):
        return _verify_base(knowledge_base)
    base = KnowledgeBase.open(knowledge_base)
    base.close()
    damages = []
    for part in union.parts:
        found = _verify_base(knowledge_base / part.folder)[1]
        damages += [Damage(f"{part.folder}, {damage.place}", damage.what) for damage in found]
    return base.manifest, damages


def _verify_base(knowledge_base: Path) -> tuple[Manifest, list[Damage]]:
    read_manifest(knowledge_base)
    base = KnowledgeBase.open(knowledge_base)
    try:
        manifest = base.manifest
        damages: list[Damage] = []
        if manifest.vectors:
            damages += _vectors(knowledge_base / manifest.folder, manifest.vectors, base)
        dense = None if damages else base.dense
        damages += _fingerprints(knowledge_base / manifest.folder, manifest, base)
        ids: Counter[bytes] = Counter()
        licenses: Counter[str] = Counter()
        with progress_bar("verifying", manifest.pairs) as progress:
            pairs = (base.index.pair(document) for document in base.index.in_order())
            for name, group in groupby(pairs, key=lambda pair: pair.shard):
                members, unreadable = _members(
                    knowledge_base / manifest.shards_folder, next((s for s in manifest.shards if s.name == name), None)
                )
                damages += [Damage(name, unreadable)] if unreadable else []
                for pair in group:
                    ids[hashlib.blake2b(pair.id.encode(), digest_size=12).digest()] += 1
                    licenses[pair.license] += 1
                    damages += [Damage(f"{pair.shard}, {pair.id}", what) for what in _damages(base, pair, members)]
                    if dense and not dense.vectors_of([pair.id]):
                        damages.append(Damage(f"{pair.shard}, {pair.id}", "it has no vector; make the vectors anew"))
                    progress.update()
        damages += _counts(manifest, ids, licenses)
        return manifest, damages
    except DamagedError as error:
        raise ReimagenError(f"{knowledge_base} is damaged, build it again: {error}") from error
    finally:
        base.close()


def _damages(base: KnowledgeBase, pair: StoredPair, members: dict[int, int] | None) -> Iterator[str]:
    if members is not None and members.get(pair.offset) != pair.length:
        yield "no member of the tar is where its picture should be"
    try:
        digest = hashlib.sha256(base.images.read(pair)).hexdigest()
    except (DamagedError, OSError) as error:
        yield f"its picture can't be read: {error}"
        return
    except KeyError:
        yield "its shard is none of the base's"
        return
    if digest != pair.sha256:
        yield "its picture is not what was added"


def _vectors(folder: Path, vectors: Vectors, base: KnowledgeBase) -> Iterator[Damage]:
    yield from _files(folder / vectors.folder, vectors.sha256, "make the vectors anew")
    size = base.appended.get(vectors.added, 0)
    for record in read_appended(folder / vectors.added, FLOAT16.itemsize * vectors.dimension, 0, size):
        if not record.intact:
            yield Damage(f"{vectors.added}, {record.id}", "its vector is not what was added; make the vectors anew")


def _fingerprints(folder: Path, manifest: Manifest, base: KnowledgeBase) -> Iterator[Damage]:
    if manifest.fingerprints:
        yield from _files(folder / FOLDER, manifest.fingerprints, "`compact` makes the fingerprints anew")
    for record in read_appended(folder / ADDED, RECORD_BYTES, 0, base.appended.get(ADDED, 0)):
        if not record.intact:
            what = "its picture's fingerprint is not what was added; `compact` makes the fingerprints anew"
            yield Damage(f"{ADDED}, {record.id}", what)


def _files(folder: Path, sha256: Mapping[str, str], remedy: str) -> Iterator[Damage]:
    there = checksums(folder)
    for name, digest in sha256.items():
        if there.get(name) != digest:
            yield Damage(f"{folder.name}/{name}", f"is not as it was written; {remedy}")


def _counts(manifest: Manifest, ids: Counter[bytes], licenses: Counter[str]) -> Iterator[Damage]:
    twice = sum(count > 1 for count in ids.values())
    if twice:
        yield Damage("index", f"{twice:,} ids are there more than once")
    if ids.total() != manifest.pairs:
        yield Damage("index", f"{ids.total():,} pairs are there, the last commit says {manifest.pairs:,}")
    if dict(licenses) != manifest.licenses:
        yield Damage("index", "the counts of licenses are not those of the last commit")


def _members(folder: Path, shard: Shard | None) -> tuple[dict[int, int] | None, str]:
    """Where the files of a shard begin and how long they are, up to its committed end; or what is wrong with it."""
    if shard is None:
        return None, "is none of the base's shards"
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
        return None, f"is no whole tar file: {error}"
    pictures = len(members) // 3
    if pictures != shard.pairs:
        return None, f"holds {pictures:,} pairs, the last commit says {shard.pairs:,}"
    return members, ""


class _Committed:
    """A file that ends where the last commit says; what a writer is just appending is not looked at."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()
