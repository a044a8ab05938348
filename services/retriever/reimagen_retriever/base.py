"""A knowledge base, open for reading."""

from pathlib import Path
from typing import Self

from reimagen_common.errors import ReimagenError
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.manifest import Manifest, manifest_stamp, read_manifest
from reimagen_retriever.knowledge_base.shards import ImageStore


class KnowledgeBase:
    """One generation of a knowledge base: its manifest, its index and its pictures."""

    def __init__(self, manifest: Manifest, index: BM25Index, images: ImageStore) -> None:
        self.manifest = manifest
        self.index = index
        self.images = images

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens what the manifest names.

        Raises:
            NotFound: there is no finished knowledge base in the folder.
            InvalidArgument: its manifest is broken or of another version.
            ReimagenError: it is damaged.
        """
        while True:
            stamp = manifest_stamp(folder)
            manifest = read_manifest(folder)
            try:
                return cls._open(folder, manifest)
            except DamagedError as error:
                # Unless a build replaced the base while it was being opened.
                if manifest_stamp(folder) == stamp:
                    raise ReimagenError(f"{folder} is damaged, build it again: {error}") from error

    @classmethod
    def _open(cls, folder: Path, manifest: Manifest) -> Self:
        images = ImageStore(folder / manifest.shards_folder, manifest.shards)
        try:
            index = BM25Index(folder / manifest.lucene_folder, manifest.analysis)
            if index.pairs != manifest.pairs:
                raise DamagedError(f"the index holds {index.pairs:,} pairs, the manifest says {manifest.pairs:,}")
        except DamagedError:
            images.close()
            raise
        return cls(manifest, index, images)

    def close(self) -> None:
        """Lets go of all files."""
        self.index.close()
        self.images.close()
