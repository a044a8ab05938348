"""Source that is a list of captions: `captions` or `metadata` as `.csv`, `.jsonl` or `.parquet`.

A list has a column for the image's path, relative to the list, and one for its caption. Columns for id, source, license
and LAION's measures are optional. The letter case of column names does not matter. Hugging Face's imagefolder is such a
source: one list in the folder, or one in each split's subfolder. Several rows of the same image, as in Flickr30k,
become one pair with all captions.
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
from reimagen_retriever.knowledge_base.sources.folder import NOT_AN_IMAGE, is_image
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
    """Return the first list in the folder, or else all lists in its subfolders."""
    lists = [name for name in names if PurePosixPath(name).name.lower() in LIST_NAMES]
    return [name for name in lists if "/" not in name][:1] or lists


class ListSource:
    """Source of the pairs in one or more lists; a pair's id is the `id` column, or else the path without the ending."""

    def __init__(self, files: Files, lists: list[str], listing: Listing, *, alone: bool = False) -> None:
        """Check the lists' columns.

        Args:
            files: The folder.
            lists: Names of the lists.
            listing: Content of the folder.
            alone: Whether the lists are the whole source, so that other files are not reported.

        Raises:
            InvalidArgument: The only list lacks a column of images or captions, or a list is Parquet and pyarrow is
                not installed.
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
        """Return the lists with their stamps, and the names of all files."""
        for name in self._lists:
            yield f"{name} {self._files.stamp(name)}"
        yield from self._listing.names

    def size(self) -> int:
        """Return the number of rows."""
        return sum(tables.count(self._files, name) for name in self._lists)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Yield every row of the lists in order; the first row of an image gets all its captions."""
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
        """Yield images that no list names, and other files except the texts and JSON notes beside images."""
        if self._alone:
            return
        listed = {path for _, _, path in self._rows()} | {*self._lists}
        images = {posixpath.splitext(name)[0] for name in self._listing.names if is_image(name)}
        for left in self._listing.left_over(listed, _UNLISTED):
            stem, ending = posixpath.splitext(left.location)
            if left.reason != _UNLISTED or is_image(left.location):
                yield left
            elif stem not in images or ending.lower() not in {".txt", ".json"}:
                yield Rejected(left.location, NOT_AN_IMAGE)

    def _entries(self) -> Iterator[tuple[str, Row, str] | Rejected]:
        """Yield each row's location, columns and image path, or a rejection."""
        captions = self._captions_of_repeated_images()
        seen = defaultdict[bytes, set[str]](set)
        for location, row, path in self._rows():
            if isinstance(row, RejectedError):
                yield Rejected(location, row.reason, row.detail)
                continue
            key, caption = _key(row, path), _caption(row)
            if not caption or key not in captions:
                yield location, row, path
            elif not seen[key]:
                yield location, row | {TEXT_COLUMNS[0]: joined(list(captions[key]))}, path
            elif caption in seen[key]:
                yield Rejected(location, "repeated row", f"an earlier one has {path!r} with the same caption")
            seen[key].add(caption)

    def _rows(self) -> Iterator[tuple[str, Row | RejectedError, str]]:
        """Yield each row's location, columns or error, and image path in the folder."""
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
        """Return the distinct captions, in order, of each image that several rows name under the same id or no id."""
        existing = frozenset(self._listing.names)
        once, repeated = set[bytes](), set[bytes]()
        for _, row, path in self._rows():
            if not isinstance(row, RejectedError) and path in existing and _caption(row):
                key = _key(row, path)
                (repeated if key in once else once).add(key)
        captions = defaultdict[bytes, dict[str, None]](dict)
        for _, row, path in self._rows() if repeated else ():
            if not isinstance(row, RejectedError) and (key := _key(row, path)) in repeated and _caption(row):
                captions[key][_caption(row)] = None
        return captions


def _caption(row: Row) -> str:
    """Return the row's caption if it is valid, or ''."""
    try:
        return checked_caption(first(row, TEXT_COLUMNS))
    except RejectedError:
        return ""


def _key(row: Row, path: str) -> bytes:
    """Return a digest of a row's id and image path; the strings of a large list would not fit into memory."""
    identifier = str(row.get(ID_COLUMNS[0], ""))
    return hashlib.blake2b(f"{identifier}\0{path}".encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _check_columns(name: str, columns: list[str] | None) -> None:
    """Check that a list has a column of images and one of captions.

    Raises:
        RejectedError: One of the two is missing.
    """
    if columns is None:
        return
    if not columns:
        raise RejectedError("unknown columns", "it is empty")
    existing = {column.strip().lower() for column in columns}
    if not existing.isdisjoint(PATH_COLUMNS) and not existing.isdisjoint(TEXT_COLUMNS):
        return
    detail = f"it has {', '.join(map(repr, columns))}"[:300]
    separator = next((each for each in _SEPARATORS if any(each in column for column in columns)), "")
    if separator and name.lower().endswith(".csv"):
        detail = f"its columns are separated by {separator!r}, not by ',': {detail}"
    raise RejectedError(
        "unknown columns", f"{detail}; it needs one of {', '.join(PATH_COLUMNS)} and one of {', '.join(TEXT_COLUMNS)}"
    )
