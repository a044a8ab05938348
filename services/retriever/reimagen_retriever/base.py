"""A knowledge base, open for reading."""

from pathlib import Path

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.knowledge_base.manifest import Manifest, manifest_stamp, read_manifest
from reimagen_retriever.knowledge_base.shards import ImageStore, ShardDamagedError


class KnowledgeBase:
    """One generation of a knowledge base: its manifest, its index and its pictures."""

    def __init__(self, manifest: Manifest, index: BM25Index, images: ImageStore) -> None:
        self.manifest = manifest
        self.index = index
        self.images = images

    @classmethod
    def open(cls, folder: Path) -> "KnowledgeBase":
        """Opens what the manifest names.

        Raises:
            NotFound: there is no finished knowledge base in the folder.
            InvalidArgument: it is damaged.
        """
        while True:
            stamp = manifest_stamp(folder)
            manifest = read_manifest(folder)
            try:
                images = ImageStore(folder / manifest.shards_folder, manifest.shards)
                return cls(manifest, BM25Index(folder / manifest.lucene_folder), images)
            except Exception as error:
                if manifest_stamp(folder) != stamp:
                    continue  # A build replaced the base while it was being opened.
                if isinstance(error, ShardDamagedError):
                    raise InvalidArgument(f"{folder} is damaged, build it again: {error}") from error
                raise

    def close(self) -> None:
        """Lets go of all files."""
        self.index.close()
        self.images.close()
