"""Sources that a knowledge base can be built from."""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import coco, folder, lists, wiki_images
from reimagen_retriever.knowledge_base.sources.files import Files, Listing, locate
from reimagen_retriever.knowledge_base.sources.img2dataset import COUNTS
from reimagen_retriever.knowledge_base.sources.laion import LaionMetadata
from reimagen_retriever.knowledge_base.sources.webdataset import WebDatasetSource

_METADATA_WITHOUT_SHARDS = "needs a source of shards (*.tar) that img2dataset downloaded"


class Source(Protocol):
    """A folder, list or set of shards with pairs."""

    def identity(self) -> Iterator[str]:
        """Return lines that change when the source does: the names and stamps of its files."""

    def size(self) -> int:
        """Return the approximate number of entries, or 0 if only reading everything would tell."""

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Yield every entry in the source's order: an unchecked pair or a rejection.

        Args:
            skip: Number of entries to skip at the start, without reading their images.

        Raises:
            Unavailable: The store does not answer.
        """

    def left_over(self) -> Iterator[Rejected]:
        """Yield a rejection for everything in the source that is not an entry.

        Raises the same errors as `entries`.
        """


def open_source(address: str | Path, metadata: str = "") -> Source:
    """Detect the kind of source at an address and open it.

    Args:
        address: Local path, or an address for fsspec.
        metadata: Path or address of the LAION Parquet files that the source's shards were downloaded from.

    Raises:
        InvalidArgument: There is nothing to build from.
        Unavailable: The store does not answer.
    """
    files, only = locate(address)
    listing = files.listing()
    if only:
        return _open_file(address, files, only, listing, metadata)
    names = listing.names
    shards = [name for name in names if _is_shard(name)]
    at_root = [name for name in shards if "/" not in name]
    if at_root:
        return _shards(files, listing, at_root, metadata)
    if not metadata:
        if wiki_images.IMAGES in names:
            return wiki_images.WikiImagesSource(files, listing)
        if captions := coco.caption_files(names):
            return coco.CocoSource(files, listing, captions)
        if found := lists.lists_of(names):
            return lists.ListSource(files, found, listing)
        if any(map(folder.is_image, names)):
            return folder.FolderSource(files, listing)
    if shards:
        return _shards(files, listing, shards, metadata)
    if metadata:
        raise InvalidArgument(_METADATA_WITHOUT_SHARDS, field="metadata")
    others = f"; it has {len(names):,} other files, such as {names[0]}" if names else ""
    raise InvalidArgument(
        f"{files.address} has no *.tar, no {' or '.join(sorted(lists.LIST_NAMES))}, no {wiki_images.IMAGES}, "
        f"no annotations/captions_*.json and no image{others}",
        field="source",
    )


def _open_file(address: str | Path, files: Files, name: str, listing: Listing, metadata: str) -> Source:
    """Open a source that is a single file, with only the files beside it that belong to it."""
    if _is_shard(name):
        stem = posixpath.splitext(name)[0].lower()
        companions = [other for other in listing.names if other.lower() in {f"{stem}.parquet", f"{stem}{COUNTS}"}]
        return _shards(files, Listing([name, *companions]), [name], metadata)
    if metadata:
        raise InvalidArgument(_METADATA_WITHOUT_SHARDS, field="metadata")
    if name.lower().endswith(lists.LIST_ENDINGS):
        return lists.ListSource(files, [name], listing, alone=True)
    raise InvalidArgument(
        f"{address} is neither a folder, a WebDataset shard (*.tar) nor a list of captions "
        f"(*{', *'.join(lists.LIST_ENDINGS)})",
        field="source",
    )


def _shards(files: Files, listing: Listing, shards: list[str], metadata: str) -> WebDatasetSource:
    return WebDatasetSource(files, listing, shards, LaionMetadata(metadata) if metadata else None)


def _is_shard(name: str) -> bool:
    return name.lower().endswith(".tar")
