"""A list of captions: `captions` or `metadata` as `.csv`, `.jsonl` or `.parquet`.

It has a column for the image's path, relative to the list, one for its caption, and if you like its id, source,
license and LAION's measures. Column names are read in any case. That is Hugging Face's imagefolder too: one list in the
folder, or one in each split's subfolder. Rows of the same image, as of Flickr30k, are one pair with all captions.
"""

import hashlib
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import MAXIMUM_IMAGE_BYTES
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair, checked_caption
from reimagen_retriever.knowledge_base.sources import tables
from reimagen_retriever.knowledge_base.sources.files import Files, Listing
from reimagen_retriever.knowledge_base.sources.folder import NOT_A_IMAGE, is_image
from reimagen_retriever.knowledge_base.sources.rows import (
    ID_COLUMNS,
    TEXT_COLUMNS,
    Row,
    first,
    joined,
    none_filled,
    pair_of,
)

LIST_ENDINGS = (".csv", ".jsonl", ".parquet")
LIST_NAMES = frozenset(f"{stem}{ending}" for stem in ("captions", "metadata") for ending in LIST_ENDINGS)
PATH_COLUMNS = ("image", "file", "file_name", "filename", "path", "image_file_name")
_UNLISTED = "not in the list"
_SEPARATORS = (";", "\t", "|")


def lists_of(names: list[str]) -> list[str]:
    """The lists of a folder: the first in it, else those in its subfolders."""
    lists = [name for name in names if PurePosixPath(name).name.lower() in LIST_NAMES]
    return [name for name in lists if "/" not in name][:1] or lists


class ListSource:
    """Pairs of one or several lists; a pair's id is its image's path without the ending, unless the list has ids."""

    def __init__(self, files: Files, lists: list[str], listing: Listing, *, alone: bool = False) -> None:
        """Looks at the lists' columns.

        Args:
            files: the folder.
            lists: names of the lists.
            listing: what the folder holds.
            alone: whether the lists are the whole source, so that other files are not told.

        Raises:
            InvalidArgument: the only list has no columns of images and captions; or a list is Parquet, and what
                reads that is not installed.
        """
        self._files = files
        self._lists = lists
        self._listing = listing
        self._alone = alone
        self._refused = dict[str, RejectedError]()
        for name in lists:
            try:
                _check_columns(name, tables.columns(files, name))
            except RejectedError as error:
                if len(lists) == 1:
                    raise InvalidArgument(f"{name}: {error}", field="source") from error
                self._refused[name] = error

    def identity(self) -> Iterator[str]:
        """The lists with their stamps, and the names of all other files."""
        for name in self._lists:
            yield f"{name} {self._files.stamp(name)}"
        yield from self._listing.names

    def size(self) -> int:
        """How many rows there are."""
        return sum(tables.count(self._files, name) for name in self._lists)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every row of the lists in their order; later captions of the same image are with its first."""
        for entry in islice(self._entries(), skip, None):
            if isinstance(entry, Rejected):
                yield entry
                continue
            location, row, path = entry
            try:
                image = self._files.read(path, MAXIMUM_IMAGE_BYTES)
                yield pair_of(row, location=location, identifier=posixpath.splitext(path)[0], image=image)
            except RejectedError as error:
                yield Rejected(location, error.reason, error.detail)

    def left_over(self) -> Iterator[Rejected]:
        """Images that no list names, and other files but the texts and notes beside images."""
        if self._alone:
            return
        listed = {path for _, _, path in self._rows()} | {*self._lists}
        images = {posixpath.splitext(name)[0] for name in self._listing.names if is_image(name)}
        for left in self._listing.left_over(listed, _UNLISTED):
            stem, ending = posixpath.splitext(left.location)
            if left.reason != _UNLISTED or is_image(left.location):
                yield left
            elif stem not in images or ending.lower() not in {".txt", ".json"}:
                yield Rejected(left.location, NOT_A_IMAGE)

    def _entries(self) -> Iterator[tuple[str, Row, str] | Rejected]:
        """A row's location, its columns and its image's path; or what is none."""
        captions = self._captions_of_repeated_images()
        met = defaultdict[bytes, set[str]](set)
        for location, row, path in self._rows():
            if isinstance(row, RejectedError):
                yield Rejected(location, row.reason, row.detail)
                continue
            key, caption = _key(row, path), _caption(row)
            if not caption or key not in captions:
                yield location, row, path
            elif not met[key]:
                yield location, row | {TEXT_COLUMNS[0]: joined(list(captions[key]))}, path
            elif caption in met[key]:
                yield Rejected(location, "repeated row", f"an earlier one has {path!r} with the same caption")
            met[key].add(caption)

    def _rows(self) -> Iterator[tuple[str, Row | RejectedError, str]]:
        """Each row's location, columns and image's path in the folder."""
        for name in self._lists:
            if name in self._refused:
                yield name, self._refused[name], ""
                continue
            folder = posixpath.dirname(name)
            for location, row in tables.rows(self._files, name):
                try:
                    if isinstance(row, RejectedError):
                        raise row
                    path = first(row, PATH_COLUMNS)
                    if not path:
                        raise RejectedError("no image", none_filled(PATH_COLUMNS, row))
                    yield location, row, posixpath.normpath(posixpath.join(folder, path))
                except RejectedError as error:
                    yield location, error, ""

    def _captions_of_repeated_images(self) -> dict[bytes, dict[str, None]]:
        """The different captions, in their order, of each image that several rows name, under the same id or none."""
        there = frozenset(self._listing.names)
        seen, repeated = set[bytes](), set[bytes]()
        for _, row, path in self._rows():
            if not isinstance(row, RejectedError) and path in there and _caption(row):
                key = _key(row, path)
                (repeated if key in seen else seen).add(key)
        captions = defaultdict[bytes, dict[str, None]](dict)
        for _, row, path in self._rows() if repeated else ():
            if not isinstance(row, RejectedError) and (key := _key(row, path)) in repeated and _caption(row):
                captions[key][_caption(row)] = None
        return captions


def _caption(row: Row) -> str:
    """The row's caption if it can be taken, or ''."""
    try:
        return checked_caption(first(row, TEXT_COLUMNS))
    except RejectedError:
        return ""


def _key(row: Row, path: str) -> bytes:
    """Stands for a row's id and image; a large list has more of them than memory."""
    identifier = str(row.get(ID_COLUMNS[0], ""))
    return hashlib.blake2b(f"{identifier}\0{path}".encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _check_columns(name: str, columns: list[str] | None) -> None:
    """Check that a list has a column of images and one of captions.

    Raises:
        RejectedError: one of the two is missing.
    """
    if columns is None:
        return
    if not columns:
        raise RejectedError("unknown columns", "it is empty")
    there = {column.strip().lower() for column in columns}
    if not there.isdisjoint(PATH_COLUMNS) and not there.isdisjoint(TEXT_COLUMNS):
        return
    has = f"it has {', '.join(map(repr, columns))}"[:300]
    separator = next((each for each in _SEPARATORS if any(each in column for column in columns)), "")
    if separator and name.lower().endswith(".csv"):
        has = f"its columns are separated by {separator!r}, not by ',': {has}"
    raise RejectedError(
        "unknown columns", f"{has}; needed are one of {', '.join(PATH_COLUMNS)} and one of {', '.join(TEXT_COLUMNS)}"
    )
