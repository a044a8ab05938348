"""A knowledge base that is open for reading."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from reimagen_common.errors import Damaged, InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.dense_search import DenseSearcher
from reimagen_retriever.index.version import dotted, written_by
from reimagen_retriever.knowledge_base.damage import DamagedError, NewerLuceneError
from reimagen_retriever.knowledge_base.fingerprint import FOLDER
from reimagen_retriever.knowledge_base.integrity import FinishedFile, checked_files, damages, lucene_files
from reimagen_retriever.knowledge_base.manifest import (
    Changes,
    Manifest,
    Union,
    commit_mark,
    manifest_stamp,
    read_any,
)
from reimagen_retriever.knowledge_base.shards import Images, ImageStore
from reimagen_retriever.knowledge_base.union import UnionImages, united


class KnowledgeBase:
    """One revision of a knowledge base: its manifest, its index and its images."""

    def __init__(
        self,
        folder: Path,
        built: Manifest,
        index: BM25Index,
        images: Images,
        dense: DenseSearcher | None = None,
        members: Sequence["KnowledgeBase"] = (),
    ) -> None:
        self._folder = folder
        self.built = built
        """The manifest of the last build."""
        self.manifest = _now(built, index)
        """The manifest including live writes."""
        self.appended = _appended(index)
        """Committed size of each file that live writes append to, in bytes. See `Changes.appended`."""
        self.index = index
        self.images = images
        self.dense = dense
        """The searcher of the vectors. None if the base has no vectors or was opened without them."""
        self.members = members
        """The bases of a union. Empty for a single base."""
        self.parts = [member.manifest for member in members]
        """The manifests of `members`."""

    @classmethod
    def open(cls, folder: Path, encoder: Path | None = None, *, dense: bool = True) -> Self:
        """Open a base or a union of bases, as its manifest says.

        Args:
            folder: The folder of the base.
            encoder: The folder of the encoder of its vectors. Default: the folder that the manifest names.
            dense: Whether to open its vectors, if it has any. A union always opens them.

        Raises:
            NotFound: The folder holds no complete knowledge base.
            InvalidArgument: The manifest is broken or has another version, a newer Lucene wrote the index, or the
                parts of a union are incompatible.
            Damaged: The base is damaged.
        """
        while True:
            stamp = manifest_stamp(folder)
            manifest = read_any(folder)
            try:
                if isinstance(manifest, Union):
                    known = [part.revision for part in manifest.parts]
                    parts = [folder / part.folder for part in manifest.parts]
                    return cls.open_together(folder, parts, known, encoder, manifest.duplicates)
                return cls._open(folder, manifest, encoder, dense)
            except DamagedError as error:
                # If a build replaced the base during the opening, try again.
                if manifest_stamp(folder) == stamp:
                    if isinstance(error, NewerLuceneError):
                        raise InvalidArgument(f"{folder} cannot be read: {error}") from error
                    raise Damaged(f"{folder} is damaged, build it again: {error}") from error

    @classmethod
    def _open(cls, folder: Path, manifest: Manifest, encoder: Path | None, with_vectors: bool) -> Self:
        index = BM25Index(folder / manifest.lucene_folder, manifest.analysis)
        try:
            dense = None
            if manifest.vectors and with_vectors:
                vectors = folder / manifest.folder / manifest.vectors.folder
                added = _appended(index).get(manifest.vectors.added, 0)
                dense = DenseSearcher(index, manifest.vectors, vectors, encoder, added)
            images: Images
            if manifest.store:
                # A base in a folder does not need the packages that this imports.
                from reimagen_retriever.knowledge_base.remote_images import RemoteImages

                images = RemoteImages(manifest.store, str(manifest.shards_folder), folder / manifest.store.cache_folder)
            else:
                images = ImageStore(folder / manifest.shards_folder, _now(manifest, index).shards)
            return cls(folder, manifest, index, images, dense)
        except DamagedError:
            index.close()
            raise

    @classmethod
    def open_together(
        cls,
        folder: Path,
        parts: Sequence[Path],
        known: Sequence[str] = (),
        encoder: Path | None = None,
        duplicates: Mapping[str, str] | None = None,
    ) -> Self:
        """Open several bases as one. Scores are those of a single base; later changes of the bases are not followed.

        Args:
            folder: The folder of the union.
            parts: The folders of two or more bases.
            known: The revisions of the bases when their ids were found to be distinct. If the revisions have changed,
                all ids are compared, which takes about a second for a million pairs.
            encoder: See `open`.
            duplicates: Near-duplicates across bases, see `Union`, at the revisions in `known`. If the revisions have
                changed, this is ignored and all images count as different.

        Raises:
            InvalidArgument: Two bases share an id or have different BM25 options.
            NotFound: One of the folders holds no complete knowledge base.
            Damaged: One of the bases is damaged.
        """
        with ExitStack() as opened:
            bases = []
            for part in parts:
                base = cls._open_part(part, encoder)
                opened.callback(base.close)
                bases.append(base)
            for part, base in zip(parts, bases, strict=True):
                if base.manifest.analysis != bases[0].manifest.analysis:
                    raise InvalidArgument(
                        f"{parts[0]} and {part} cannot be searched as one: they were built with different options "
                        f"({bases[0].manifest.analysis} and {base.manifest.analysis})"
                    )
            unchanged = [base.manifest.revision for base in bases] == list(known)
            duplicates = (duplicates or {}) if unchanged else {}
            index = bases[0].index.united([base.index for base in bases[1:]], duplicates)
            if not unchanged:
                shared = index.shared_id()
                if shared is not None:
                    holders = " and ".join(
                        str(part) for part, base in zip(parts, bases, strict=True) if base.index.get(shared)
                    )
                    raise InvalidArgument(f"the id {shared!r} exists in {holders}: remove one of the two pairs")
            manifests = [base.manifest for base in bases]
            manifest = united(manifests, duplicates)
            dense = [base.dense for base in bases if base.dense]
            searcher = dense[0].united(dense[1:], index) if manifest.vectors else None
            opened.pop_all()
            images = UnionImages([base.images for base in bases])
            return cls(folder, manifest, index, images, searcher, bases)

    @classmethod
    def _open_part(cls, folder: Path, encoder: Path | None) -> Self:
        base = cls.open(folder, encoder)
        if base.parts:
            base.close()
            raise InvalidArgument(f"{folder} is itself a union: name its parts instead")
        return base

    def refreshed(self) -> Self | None:
        """Return the base at the last live write, or None if this base is already there.

        The caller closes both bases.

        Raises:
            DamagedError: The newer commit cannot be read.
        """
        if not isinstance(self.images, ImageStore):
            return None
        index = self.index.refreshed()
        if index is None:
            return None
        try:
            dense = None
            if self.dense and self.built.vectors:
                dense = self.dense.over(index, _appended(index).get(self.built.vectors.added, 0))
            images = self.images.shared(_now(self.built, index).shards)
            return type(self)(self._folder, self.built, index, images, dense)
        except DamagedError:
            index.close()
            raise

    @property
    def lucene_versions(self) -> list[str]:
        """The versions of Lucene that wrote the last commit; for a union, those of all its bases."""
        if self.members:
            return sorted({version for member in self.members for version in member.lucene_versions})
        written = written_by(self._folder / self.built.lucene_folder)
        return [dotted(written)] if written else []

    @cached_property
    def index_files(self) -> list[FinishedFile]:
        """The files of the index; for a union, those of all its bases."""
        if self.members:
            return [file for member in self.members for file in member.index_files]
        return lucene_files(self._folder / self.built.lucene_folder, self.index.files())

    @cached_property
    def vector_files(self) -> list[FinishedFile]:
        """The files of the vectors that have checksums."""
        if self.members:
            return [file for member in self.members for file in member.vector_files]
        return vector_files(self._folder, self.built)

    @cached_property
    def fingerprint_files(self) -> list[FinishedFile]:
        """The files of the fingerprints."""
        if self.members:
            return [file for member in self.members for file in member.fingerprint_files]
        return fingerprint_files(self._folder, self.built)

    def refuse_damage(self, *, vectors: bool = False) -> None:
        """Read the files of the index, and of the vectors if `vectors`, completely and verify them.

        Raises:
            Damaged: A file differs from what was written. The message names the first such file.
        """
        for damage in damages([*self.index_files, *(self.vector_files if vectors else ())]):
            raise Damaged(f"{self._folder} is damaged: {damage}")

    def commit_mark(self) -> int:
        """Return a mark that changes with every live write. Costs one system call."""
        return commit_mark(self._folder / self.built.folder)

    def close(self) -> None:
        """Close all files."""
        self.index.close()
        self.images.close()


def vector_files(folder: Path, built: Manifest) -> list[FinishedFile]:
    """Return the files of a base's vectors that have checksums."""
    if not built.vectors:
        return []
    vectors_folder = folder / built.folder / built.vectors.folder
    return checked_files(vectors_folder, built.vectors.sha256, "run `vectors` again to rebuild the vectors")


def fingerprint_files(folder: Path, built: Manifest) -> list[FinishedFile]:
    """Return the files of a base's fingerprints. A base in an object store is served without them."""
    if built.store:
        return []
    return checked_files(folder / built.folder / FOLDER, built.fingerprints, "`compact` rebuilds the fingerprints")


def _appended(index: BM25Index) -> Mapping[str, int]:
    changes = Changes.read(index.notes)
    return changes.appended if changes else {}


def _now(built: Manifest, index: BM25Index) -> Manifest:
    now = built.after(Changes.read(index.notes))
    if index.pairs != now.pairs:
        raise DamagedError(f"the index holds {index.pairs:,} pairs, its last commit says {now.pairs:,}")
    return now
