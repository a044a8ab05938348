"""What a knowledge base can be built from."""

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

_METADATA_ALONE = "goes with shards (*.tar) that img2dataset downloaded"


class Source(Protocol):
    """A location with pairs in it."""

    def identity(self) -> Iterator[str]:
        """What changes when the source does: the names and stamps of its files."""

    def size(self) -> int:
        """About how many entries there are; 0 when that cannot be told without reading everything."""

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every entry in the source's own order: a pair to check, or what is wrong with it.

        Args:
            skip: so many of the first are left out, and their images are not read.

        Raises:
            Unavailable: the store does not answer.
        """

    def left_over(self) -> Iterator[Rejected]:
        """What else the source holds, so that everything in it is either an entry or reported.

        Raises what `entries` raises.
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
        raise InvalidArgument(_METADATA_ALONE, field="metadata")
    others = f"; it holds {len(names):,} other files, such as {names[0]}" if names else ""
    raise InvalidArgument(
        f"{files.address} holds no *.tar, no {' or '.join(sorted(lists.LIST_NAMES))}, no {wiki_images.IMAGES}, "
        f"no annotations/captions_*.json, and no image{others}",
        field="source",
    )


def _open_file(address: str | Path, files: Files, name: str, listing: Listing, metadata: str) -> Source:
    """A source that is a single file: of what lies beside it, no more is read than belongs to it."""
    if _is_shard(name):
        stem = posixpath.splitext(name)[0].lower()
        beside = [other for other in listing.names if other.lower() in {f"{stem}.parquet", f"{stem}{COUNTS}"}]
        return _shards(files, Listing([name, *beside]), [name], metadata)
    if metadata:
        raise InvalidArgument(_METADATA_ALONE, field="metadata")
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
