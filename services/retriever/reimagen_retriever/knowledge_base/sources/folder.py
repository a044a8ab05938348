"""Source that is a folder of images: `name.jpg` with `name.txt`, img2dataset's `name.json`, or both beside it.

In img2dataset's `files` layout, the table beside a folder, `00000.parquet` beside `00000/`, is joined too.
"""

import posixpath
from collections.abc import Iterator
from itertools import groupby, islice

from reimagen_common.images import IMAGE_ENDINGS, MAXIMUM_IMAGE_BYTES, UNREADABLE_ENDINGS
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources.files import Files, Listing, stamp_of
from reimagen_retriever.knowledge_base.sources.img2dataset import (
    COUNTS,
    MAXIMUM_NOTE_BYTES,
    Table,
    no_table,
    read_table,
    refuse_failed,
)
from reimagen_retriever.knowledge_base.sources.rows import TEXT_COLUMNS, Row, first, pair_of, row_of_json
from reimagen_retriever.knowledge_base.sources.texts import decoded

NOT_AN_IMAGE = "not an image"
"""Reason for rejecting files that are neither an image nor belong to one."""


class FolderSource:
    """Source of the pairs in a folder; a pair's id is its image's path without the ending."""

    def __init__(self, files: Files, listing: Listing) -> None:
        """Sort the files by kind, without reading them.

        Args:
            files: The folder.
            listing: Content of the folder.
        """
        self._files = files
        self._listing = listing
        self._images = [name for name in listing.names if is_image(name)]
        beside = {posixpath.splitext(name)[0] for name in self._images}
        folders = {posixpath.dirname(name) for name in self._images}
        self._texts = _by_stem(listing.names, ".txt", beside)
        self._notes = _by_stem(listing.names, ".json", beside)
        self._tables = _by_stem(listing.names, ".parquet", folders)
        counts = {f"{folder}{COUNTS}" for folder in folders}
        self._read = {*self._images, *self._texts.values(), *self._notes.values(), *self._tables.values()} | counts

    def identity(self) -> Iterator[str]:
        """Return every file's name, with a stamp for files that are read."""
        for name in self._listing.names:
            yield stamp_of(self._files, name) if name in self._read else name

    def size(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Yield every image by name, a folder at a time, and then the failures in the folder's table."""
        for entry in islice(self._entries(), skip, None):
            yield entry if isinstance(entry, Rejected) else self._entry(*entry)

    def _entries(self) -> Iterator[tuple[str, Row] | Rejected]:
        """Yield each image's name with its row of a table, before its files are read, and rejections of the table."""
        images = sorted((posixpath.dirname(name), name) for name in self._images)
        for folder, group in groupby(images, key=lambda each: each[0]):
            table = self._table(folder)
            for _, name in group:
                stem = posixpath.splitext(name)[0]
                yield name, table.take(posixpath.basename(stem))
            yield from table.rejected
            yield from table.missing(folder)

    def left_over(self) -> Iterator[Rejected]:
        """Yield captions without an image, and files of other kinds."""
        for left in self._listing.left_over(self._read, NOT_AN_IMAGE):
            caption = left.location.lower().endswith(".txt") and left.reason == NOT_AN_IMAGE
            yield Rejected(left.location, "caption without an image") if caption else left

    def _table(self, folder: str) -> Table:
        return read_table(self._files, self._tables[folder]) if folder in self._tables else no_table()

    def _entry(self, name: str, row: Row) -> SourcePair | Rejected:
        stem = posixpath.splitext(name)[0]
        try:
            if stem in self._notes:
                row = row | row_of_json(self._files.read(self._notes[stem], MAXIMUM_NOTE_BYTES), "broken json")
            refuse_failed(row)
            text = None
            if stem in self._texts:
                text = decoded(self._texts[stem], self._files.read(self._texts[stem], MAXIMUM_NOTE_BYTES))
            elif not first(row, TEXT_COLUMNS):
                raise RejectedError("no caption", f"there is no {posixpath.basename(stem)}.txt beside it")
            image = self._files.read(name, MAXIMUM_IMAGE_BYTES)
            return pair_of(row, location=name, identifier=stem, image=image, text=text)
        except RejectedError as error:
            return Rejected(name, error.reason, error.detail)


def is_image(name: str) -> bool:
    """Return whether the file's name has the ending of an image, readable or not."""
    return name.lower().endswith(IMAGE_ENDINGS + UNREADABLE_ENDINGS)


def _by_stem(names: list[str], ending: str, stems: set[str]) -> dict[str, str]:
    """Return the first file with this ending for each of the stems."""
    found = dict[str, str]()
    for name in names:
        stem = posixpath.splitext(name)[0]
        if name.lower().endswith(ending) and stem in stems:
            found.setdefault(stem, name)
    return found
