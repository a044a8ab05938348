"""Source that is a set of WebDataset shards by img2dataset: `KEY.jpg`, `KEY.txt` and `KEY.json` in sequence.

Beside `00000.tar` img2dataset writes `00000.parquet`, with a row for each URL that it tried. Its columns are joined by
`key`, and rows of images that could not be downloaded are reported with img2dataset's message. The table is optional.
"""

import json
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import PurePosixPath
from typing import BinaryIO, Self

from reimagen_common.errors import ReimagenError
from reimagen_common.hidden import is_hidden
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
from reimagen_retriever.knowledge_base.sources.laion import LaionMetadata
from reimagen_retriever.knowledge_base.sources.rows import TEXT_COLUMNS, Row, first, pair_of, row_of_json
from reimagen_retriever.knowledge_base.sources.texts import decoded

_IMAGES = tuple(ending[1:] for ending in IMAGE_ENDINGS + UNREADABLE_ENDINGS)
_MEMBERS = frozenset({*_IMAGES, "txt", "json"})
_CHUNK_BYTES = 1024 * 1024


class WebDatasetSource:
    """Source of the pairs in tar shards; a pair's id is its `id` column, or else its key."""

    def __init__(
        self, files: Files, listing: Listing, shards: Sequence[str], metadata: LaionMetadata | None = None
    ) -> None:
        """Find the tables of the shards, without reading any file.

        Args:
            files: The folder.
            listing: Content of the folder.
            shards: Names of the shards to read.
            metadata: LAION's metadata to join, if any.
        """
        self._files = files
        self._shards = shards
        self._metadata = metadata
        names = {name.lower(): name for name in reversed(listing.names)}
        stems = {shard: posixpath.splitext(shard)[0].lower() for shard in shards}
        self._tables = {shard: names[f"{stem}.parquet"] for shard, stem in stems.items() if f"{stem}.parquet" in names}
        self._counts = {shard: names[f"{stem}{COUNTS}"] for shard, stem in stems.items() if f"{stem}{COUNTS}" in names}
        read = {*shards, *self._tables.values(), *self._counts.values()}
        self._others = list(listing.left_over(read, "not in a shard"))

    @property
    def shards(self) -> Sequence[str]:
        """The names of the shards."""
        return self._shards

    def of_shard(self, shard: str) -> Self:
        """Return a copy of this source with only that shard."""
        one = copy(self)
        one._shards = [shard]
        return one

    def stamps(self, shard: str) -> list[str]:
        """Return the stamps of a shard and its table."""
        return [stamp_of(self._files, name) for name in (shard, self._tables.get(shard)) if name]

    def identity(self) -> Iterator[str]:
        """Return the shards, tables and metadata with their stamps, and the names of other files."""
        for shard in self._shards:
            yield from self.stamps(shard)
        if self._metadata:
            yield from self._metadata.identity()
        yield from (other.location for other in self._others)

    def size(self) -> int:
        """Return the number of URLs that img2dataset tried, or 0 without its statistics."""
        total = 0
        for shard in self._shards:
            try:
                statistics = json.loads(self._files.read(self._counts[shard], MAXIMUM_NOTE_BYTES))
                total += int(statistics["count"])
            except (RejectedError, ValueError, KeyError, TypeError):
                return 0
        return total

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Yield every sample in the order of the shards; after each shard, yield the failures in its table."""
        passed = 0
        for shard in self._shards:
            for entry in self._shard(shard, skip - passed):
                passed += 1
                if passed > skip:
                    assert entry is not None
                    yield entry

    def left_over(self) -> Iterator[Rejected]:
        """Yield the other files beside the shards."""
        yield from self._others

    def _shard(self, shard: str, skip: int) -> Iterator[SourcePair | Rejected | None]:
        """Yield the entries of a shard; the first `skip` are not read and come as None."""
        table = read_table(self._files, self._tables[shard]) if shard in self._tables else no_table()
        try:
            with self._files.open(shard) as file:
                yield from self._samples(shard, file, table, skip)
        except RejectedError as error:
            yield Rejected(shard, error.reason, error.detail)
        except ReimagenError:
            raise
        except Exception as error:  # noqa: BLE001 - tarfile raises errors of many classes for broken headers.
            yield Rejected(shard, "broken shard", f"{error}; the rest of the shard is lost")
        yield from table.rejected
        yield from table.missing(shard)

    def _samples(self, shard: str, file: BinaryIO, table: Table, skip: int) -> Iterator[SourcePair | Rejected | None]:
        """Yield the samples of a shard, each with its row, which is removed from the table."""
        sample: _Sample | None = None
        passed = 0
        ending: RejectedError | None = None
        try:
            for tar, member in _members(file):
                key, kind = _key_and_kind(member.name)
                if sample is None or key != sample.key:
                    for entry in self._entries(shard, sample, table, read=passed >= skip):
                        yield entry
                        passed += 1
                    sample = _Sample(key)
                sample.add(tar, member, kind, read=passed >= skip)
        except RejectedError as error:
            ending = error
        yield from self._entries(shard, sample, table, read=passed >= skip)
        if ending:
            raise ending

    def _entries(
        self, shard: str, sample: "_Sample | None", table: Table, *, read: bool
    ) -> Iterator[SourcePair | Rejected | None]:
        """Yield a sample's pair or rejection, and a rejection for each surplus member."""
        if sample is None:
            return
        row = table.take(sample.key)
        yield self._pair(shard, sample, row) if read else None
        for name in sample.surplus:
            yield Rejected(f"{shard}/{name}", "surplus member", "the sample has another image, or this one twice")

    def _pair(self, shard: str, sample: "_Sample", row: Row) -> SourcePair | Rejected:
        location, members = f"{shard}/{sample.key}", sample.members
        if sample.rejected:
            return Rejected(f"{shard}/{sample.rejected[0]}", sample.rejected[1].reason, sample.rejected[1].detail)
        try:
            row = row | row_of_json(members.get("json", b"{}"), "broken json")
            text = decoded(f"{sample.key}.txt", members["txt"]) if "txt" in members else None
            if self._metadata:
                caption = {} if first(row, TEXT_COLUMNS) or text is None else {TEXT_COLUMNS[0]: text}
                row |= self._metadata.row_of(row | caption)
            refuse_failed(row)
            kind = next((kind for kind in _IMAGES if kind in members), None)
            if kind is None:
                raise RejectedError("no image", f"the sample has {', '.join(sorted(sample.kinds))}")
            return pair_of(row, location=location, identifier=sample.key, image=members[kind], text=text)
        except RejectedError as error:
            return Rejected(location, error.reason, error.detail)


class _Sample:
    """The members of a shard that share a key."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.kinds: set[str] = set()
        self.members: dict[str, bytes] = {}
        """Content of each member, by kind."""
        self.rejected: tuple[str, RejectedError] | None = None
        """Name and error of a member that makes the sample invalid."""
        self.surplus: list[str] = []
        """Names of surplus members."""

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str, *, read: bool) -> None:
        """Add a member; without `read`, record only its kind."""
        repeated = kind in _IMAGES and not self.kinds.isdisjoint(_IMAGES)
        if kind in _MEMBERS and (repeated or kind in self.kinds):
            self.surplus.append(member.name)
            return
        self.kinds.add(kind)
        if kind in _MEMBERS and read:
            try:
                self.members[kind] = _read(tar, member, kind)
            except RejectedError as error:
                self.rejected = (member.name, error)


def _members(file: BinaryIO) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of an archive and of those concatenated to it (`cat 0.tar 1.tar`), without hidden ones.

    Raises:
        RejectedError: The file does not end as an archive does; the rest of it is lost.
    """
    start: int | None = 0
    while start is not None:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            last = -1
            for member in tar:
                # Otherwise tarfile would keep the headers of all members in memory.
                tar.members = []  # type: ignore[attr-defined]
                if tar.offset <= last:
                    raise tarfile.ReadError(f"the member at byte {member.offset:,} has a negative size")
                last = tar.offset
                if not member.isdir() and not is_hidden(member.name):
                    yield tar, member
            end = tar.offset
        start = _next_archive(file, end)


def _next_archive(file: BinaryIO, end: int) -> int | None:
    """Return the offset of another archive after the end of one, if any.

    The end itself is checked too, because tarfile takes a broken header for the end.

    Raises:
        RejectedError: The end marker is missing, or something other than an archive follows.
    """
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise RejectedError("cut off shard", "the archive has no end marker; the rest of the shard is lost")
    if any(block) or len(block) < tarfile.BLOCKSIZE:
        raise RejectedError("broken shard", f"there is no header at byte {end:,}; the rest of the shard is lost")
    offset = end + tarfile.BLOCKSIZE
    while chunk := file.read(_CHUNK_BYTES):
        zeros = len(chunk) - len(chunk.lstrip(b"\0"))
        if zeros < len(chunk):
            offset += zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            break
        offset += len(chunk)
    else:
        return None
    file.seek(offset)
    try:
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError as error:
        detail = f"the data after the archive's end, from byte {offset:,}, is not an archive; it is lost"
        raise RejectedError("broken shard", detail) from error
    return offset


def _key_and_kind(name: str) -> tuple[str, str]:
    """Split a member's name as WebDataset does: the key is the path up to the first dot of the file's name."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}{slash}{stem}", kind.lower()


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str) -> bytes:
    if ".." in PurePosixPath(member.name).parts or member.name.startswith("/"):
        raise RejectedError("path outside the source")
    file = tar.extractfile(member) if member.isfile() else None
    if file is None:
        raise RejectedError("unreadable file", "it is a link or a device")
    limit = MAXIMUM_IMAGE_BYTES if kind in _IMAGES else MAXIMUM_NOTE_BYTES
    if member.size > limit:
        content = "image" if kind in _IMAGES else "caption"
        raise RejectedError(f"{content} file too large", f"{member.size:,} bytes, at most {limit:,}")
    return file.read()
