"""A knowledge base, open for reading."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from reimagen_common.errors import Damaged, InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.dense_search import DenseSearcher
from reimagen_retriever.knowledge_base.damage import DamagedError
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
        """What the last build wrote."""
        self.manifest = _now(built, index)
        """What the base is now, live writes included."""
        self.appended = _appended(index)
        """Of the files that live writes append to, how much counts, see `Changes.appended`."""
        self.index = index
        self.images = images
        self.dense = dense
        """None where no vectors were made, or they are not wanted."""
        self.members = members
        """Of a union, the bases that it is of."""
        self.parts = [member.manifest for member in members]
        """What those are."""

    @classmethod
    def open(cls, folder: Path, encoder: Path | None = None, *, dense: bool = True) -> Self:
        """Opens what the manifest names: a base, or several that are read as one.

        Args:
            folder: Of the base.
            encoder: Where the encoder of its vectors is, if not where it was when they were made.
            dense: Whether it is to be searched by vectors, where it has some; a base alone can do without.

        Raises:
            NotFound: there is no complete knowledge base in the folder.
            InvalidArgument: its manifest is broken or of another version; the parts of a union don't fit together.
            Damaged: it is damaged.
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
                # Unless a build replaced the base while it was being opened.
                if manifest_stamp(folder) == stamp:
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
                # Who serves from a folder needs nothing of what this imports.
                from reimagen_retriever.knowledge_base.remote_images import RemoteImages

                images = RemoteImages(manifest.store, str(manifest.shards_folder), folder / manifest.store.kept)
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
        """Opens several bases as one, which does not follow what becomes of them; its scores are those of one base.

        Args:
            folder: Of the union.
            parts: Of the bases, two or more.
            known: Their revisions when it was found that no two of their pairs have the same id; if they have
                others now, all ids are compared, which takes about a second for a million pairs.
            encoder: See `open`.
            duplicates: Near-duplicates in different bases, see `Union`, when they had the revisions that are known;
                if they have others now, they are taken for different images.

        Raises:
            InvalidArgument: two of them have a pair of the same id, or other options of BM25.
            NotFound: one is no complete knowledge base.
            Damaged: one is damaged.
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
                        f"{parts[0]} and {part} can't be searched as one: they were built with other options "
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
                    raise InvalidArgument(f"the id {shared!r} is of a pair in {holders}: remove one of them")
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
            raise InvalidArgument(f"{folder} is a union itself: name its parts")
        return base

    def refreshed(self) -> Self | None:
        """This base as the last live write left it, or None if that is what this one is; both are to be closed.

        Raises:
            DamagedError: what has come since cannot be read.
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

    @cached_property
    def index_files(self) -> list[FinishedFile]:
        """The files of the index, of a union those of all its bases."""
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
        """Reads the files that searches are answered from, the vectors' too if they are wanted, to their ends.

        Raises:
            Damaged: naming the first that is not as it was written.
        """
        for damage in damages([*self.index_files, *(self.vector_files if vectors else ())]):
            raise Damaged(f"{self._folder} is damaged: {damage}")

    def commit_mark(self) -> int:
        """Changes with every live write; costs one system call."""
        return commit_mark(self._folder / self.built.folder)

    def close(self) -> None:
        """Lets go of all files."""
        self.index.close()
        self.images.close()


def vector_files(folder: Path, built: Manifest) -> list[FinishedFile]:
    """The files of a base's vectors that have checksums."""
    if not built.vectors:
        return []
    made = folder / built.folder / built.vectors.folder
    return checked_files(made, built.vectors.sha256, "make the vectors anew")


def fingerprint_files(folder: Path, built: Manifest) -> list[FinishedFile]:
    """The files of a base's fingerprints; a base whose images are in a store is served without them."""
    if built.store:
        return []
    return checked_files(folder / built.folder / FOLDER, built.fingerprints, "`compact` makes the fingerprints anew")


def _appended(index: BM25Index) -> Mapping[str, int]:
    changes = Changes.read(index.notes)
    return changes.appended if changes else {}


def _now(built: Manifest, index: BM25Index) -> Manifest:
    now = built.after(Changes.read(index.notes))
    if index.pairs != now.pairs:
        raise DamagedError(f"the index holds {index.pairs:,} pairs, its last commit says {now.pairs:,}")
    return now
