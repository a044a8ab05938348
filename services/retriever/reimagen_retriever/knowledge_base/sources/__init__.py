"""What a knowledge base can be built from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources.folder import FolderSource
from reimagen_retriever.knowledge_base.sources.webdataset import WebDatasetSource


class Source(Protocol):
    """A place with pairs in it."""

    def entries(self) -> Iterator[SourcePair | Rejected]:
        """Every entry in the source's own order: a pair to check, or what is wrong with it."""

    def size(self) -> int:
        """About how many entries there are; 0 when that cannot be told without reading everything."""


def open_source(path: Path) -> Source:
    """Finds out what kind of source lies at a path.

    Raises:
        InvalidArgument: there is nothing to build from.
    """
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        return WebDatasetSource(shards) if shards else FolderSource(path)
    if path.is_file() and path.suffix == ".tar":
        return WebDatasetSource([path])
    raise InvalidArgument(
        f"{path} is neither a folder of pictures with captions nor WebDataset shards (*.tar)", field="source"
    )
