"""A knowledge base, open for reading."""

from pathlib import Path
from typing import Self

from reimagen_common.errors import ReimagenError
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.dense_search import DenseSearcher
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.manifest import Changes, Manifest, commit_mark, manifest_stamp, read_manifest
from reimagen_retriever.knowledge_base.shards import ImageStore


class KnowledgeBase:
    """One generation of a knowledge base: its manifest, its index and its pictures."""

    def __init__(
        self, folder: Path, built: Manifest, index: BM25Index, images: ImageStore, dense: DenseSearcher | None = None
    ) -> None:
        self._folder = folder
        self.built = built
        """What the last build wrote."""
        self.manifest = _now(built, index)
        """What the base is now, live writes included."""
        self.index = index
        self.images = images
        self.dense = dense
        """None where no vectors were made."""

    @classmethod
    def open(cls, folder: Path, encoder: Path | None = None) -> Self:
        """Opens what the manifest names.

        Args:
            folder: Of the base.
            encoder: Where the encoder of its vectors is, if not where it was when they were made.

        Raises:
            NotFound: there is no finished knowledge base in the folder.
            InvalidArgument: its manifest is broken or of another version.
            ReimagenError: it is damaged.
        """
        while True:
            stamp = manifest_stamp(folder)
            manifest = read_manifest(folder)
            try:
                return cls._open(folder, manifest, encoder)
            except DamagedError as error:
                # Unless a build replaced the base while it was being opened.
                if manifest_stamp(folder) == stamp:
                    raise ReimagenError(f"{folder} is damaged, build it again: {error}") from error

    @classmethod
    def _open(cls, folder: Path, manifest: Manifest, encoder: Path | None) -> Self:
        index = BM25Index(folder / manifest.lucene_folder, manifest.analysis)
        try:
            dense = None
            if manifest.vectors:
                vectors = folder / manifest.folder / manifest.vectors.folder
                dense = DenseSearcher(index, manifest.vectors, vectors, encoder)
            shards = _now(manifest, index).shards
            return cls(folder, manifest, index, ImageStore(folder / manifest.shards_folder, shards), dense)
        except DamagedError:
            index.close()
            raise

    def refreshed(self) -> Self | None:
        """This base as the last live write left it, or None if that is what this one is; both are to be closed.

        Raises:
            DamagedError: what has come since cannot be read.
        """
        index = self.index.refreshed()
        if index is None:
            return None
        try:
            images = self.images.shared(_now(self.built, index).shards)
            return type(self)(self._folder, self.built, index, images, self.dense and self.dense.over(index))
        except DamagedError:
            index.close()
            raise

    def commit_mark(self) -> int:
        """Changes with every live write; costs one system call."""
        return commit_mark(self._folder / self.built.folder)

    def close(self) -> None:
        """Lets go of all files."""
        self.index.close()
        self.images.close()


def _now(built: Manifest, index: BM25Index) -> Manifest:
    now = built.after(Changes.read(index.notes))
    if index.pairs != now.pairs:
        raise DamagedError(f"the index holds {index.pairs:,} pairs, its last commit says {now.pairs:,}")
    return now
