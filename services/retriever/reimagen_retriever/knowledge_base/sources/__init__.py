"""What a knowledge base can be built from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import coco, folder, wiki_images
from reimagen_retriever.knowledge_base.sources.files import locate
from reimagen_retriever.knowledge_base.sources.laion import LaionMetadata
from reimagen_retriever.knowledge_base.sources.webdataset import WebDatasetSource


class Source(Protocol):
    """A place with pairs in it."""

    def identity(self) -> Iterator[str]:
        """What changes when the source does: the names and stamps of its files."""

    def size(self) -> int:
        """About how many entries there are; 0 when that cannot be told without reading everything."""

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every entry in the source's own order: a pair to check, or what is wrong with it.

        Args:
            skip: so many of the first are left out, and their pictures are not read.

        Raises:
            Unavailable: the store does not answer.
        """


def open_source(address: str | Path, metadata: str = "") -> Source:
    """Finds out what kind of source lies at an address.

    Args:
        address: a path of this machine, or an address that fsspec reaches.
        metadata: where LAION's Parquet files are, which the source's shards were downloaded from.

    Raises:
        InvalidArgument: there is nothing to build from.
        Unavailable: its store does not answer.
    """
    files, only = locate(address)
    names = files.names()
    if only and not only.lower().endswith((".tar", *folder.LIST_ENDINGS)):
        raise InvalidArgument(
            f"{address} is neither a folder, a WebDataset shard (*.tar) nor a list of captions "
            f"(*{', *'.join(folder.LIST_ENDINGS)})",
            field="source",
        )
    shards = [name for name in ([only] if only else names) if name.endswith(".tar") and "/" not in name]
    if metadata and not shards:
        raise InvalidArgument("goes with shards (*.tar) that img2dataset downloaded", field="metadata")
    if shards:
        return WebDatasetSource(files, names, shards, LaionMetadata(metadata) if metadata else None)
    if not only and wiki_images.PICTURES in names:
        return wiki_images.WikiImagesSource(files)
    if not only and (captions := coco.caption_files(names)):
        return coco.CocoSource(files, names, captions)
    return folder.FolderSource(files, names, only)
