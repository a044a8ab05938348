"""WebDataset shards as img2dataset writes them: `KEY.jpg`, `KEY.txt` and `KEY.json`, one after the other.

Beside `00000.tar` img2dataset leaves `00000.parquet`, with a row for each address that it tried: its columns are joined
by `key`, and the rows of pictures that could not be downloaded are told with its own words. The tar alone will do.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import PurePosixPath
from typing import BinaryIO, Self

from reimagen_common.errors import ReimagenError
from reimagen_common.pictures import MAXIMUM_PICTURE_BYTES
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources.files import Files
from reimagen_retriever.knowledge_base.sources.laion import LaionMetadata
from reimagen_retriever.knowledge_base.sources.rows import (
    ID_COLUMNS,
    LICENSE_COLUMNS,
    MEASURES,
    SOURCE_COLUMNS,
    TEXT_COLUMNS,
    Row,
    first,
    pair_of,
    row_of_json,
)
from reimagen_retriever.knowledge_base.sources.tables import PARQUET_HINT, parquet_installed, parquet_rows

_PICTURES = ("png", "jpg", "jpeg", "webp")
_MEMBERS = frozenset({*_PICTURES, "txt", "json"})
_MAXIMUM_NOTE_BYTES = 1024 * 1024  # of a .txt or .json member
_COLUMNS = frozenset(
    {"key", "status", "error_message", "sample_id", *MEASURES}
    | {*ID_COLUMNS, *TEXT_COLUMNS, *SOURCE_COLUMNS, *LICENSE_COLUMNS}
)


class WebDatasetSource:
    """Pairs of tar shards; a pair's id is its `id` column if there is one, else its key."""

    def __init__(
        self, files: Files, names: Sequence[str], shards: Sequence[str], metadata: LaionMetadata | None = None
    ) -> None:
        """Reads nothing yet.

        Args:
            files: the folder.
            names: all files in it.
            shards: those to read.
            metadata: of the pictures that were downloaded, to join.
        """
        self._files = files
        self._shards = shards
        self._metadata = metadata
        there = set(names)
        self._tables = {shard: table for shard in shards if (table := shard.removesuffix(".tar") + ".parquet") in there}

    @property
    def shards(self) -> Sequence[str]:
        """Their names."""
        return self._shards

    def of_shard(self, shard: str) -> Self:
        """This source as if it had that shard alone."""
        one = copy(self)
        one._shards = [shard]
        return one

    def stamps(self, shard: str) -> list[str]:
        """What changes when a shard or its table does.

        Raises:
            RejectedError: it can't be read.
        """
        return [f"{name} {self._files.stamp(name)}" for name in (shard, self._tables.get(shard)) if name]

    def identity(self) -> Iterator[str]:
        """The shards, their tables and the metadata, with their stamps."""
        for shard in self._shards:
            yield from self.stamps(shard)
        if self._metadata:
            yield from self._metadata.identity()

    def size(self) -> int:
        """How many addresses img2dataset says it tried, or 0 where it left no statistics."""
        total = 0
        for shard in self._shards:
            try:
                name = shard.removesuffix(".tar") + "_stats.json"
                statistics = json.loads(self._files.read(name, _MAXIMUM_NOTE_BYTES))
                total += int(statistics["count"])
            except (RejectedError, ValueError, KeyError, TypeError):
                return 0
        return total

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every sample in the order of the shards and of the samples in them, each shard's failures after them."""
        passed = 0
        for shard in self._shards:
            for entry in self._shard(shard, skip - passed):
                passed += 1
                if passed > skip:
                    assert entry is not None
                    yield entry

    def _shard(self, shard: str, skip: int) -> Iterator[SourcePair | Rejected | None]:
        """The entries of a shard, None in place of the first few, which are not read."""
        rows = dict[str, Row]()
        failed = list[Rejected]()
        if shard in self._tables:
            rows, failed = self._table(self._tables[shard])
        try:
            with self._files.open(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                yield from self._samples(shard, tar, rows, skip)
                yield from _how_it_ends(shard, file, tar.offset)
        except RejectedError as error:
            yield Rejected(shard, error.reason, error.detail)
        except ReimagenError:
            raise
        except Exception as error:  # noqa: BLE001 - tarfile stumbles over broken headers in many ways.
            yield Rejected(shard, "broken shard", f"{error}; the rest of it is lost")
        yield from failed
        for row in rows.values():
            yield Rejected(f"{shard}/{first(row, ('key',))}", "no picture", "the table says that it was downloaded")

    def _samples(
        self, shard: str, tar: tarfile.TarFile, rows: dict[str, Row], skip: int
    ) -> Iterator[SourcePair | Rejected | None]:
        """The samples of a shard, each with its row, which is taken out of `rows`."""
        key, members = "", dict[str, bytes]()
        rejected: Rejected | None = None
        last = -1
        for member in tar:
            # A long build would otherwise keep the header of every member it has passed.
            tar.members = []  # type: ignore[attr-defined]
            if tar.offset <= last:
                raise tarfile.ReadError(f"the member at byte {member.offset:,} has a negative size")
            last = tar.offset
            if member.isdir():
                continue
            member_key, kind = _key_and_kind(member.name)
            if member_key != key:
                if key:
                    row = rows.pop(_comparable(key), {})
                    yield None if skip > 0 else rejected or self._pair(shard, key, members, row)
                    skip -= 1
                key, members, rejected = member_key, {}, None
            if kind in _MEMBERS and skip <= 0:
                try:
                    members[kind] = _read(tar, member, kind)
                except RejectedError as error:
                    rejected = Rejected(f"{shard}/{member.name}", error.reason, error.detail)
        if key:
            row = rows.pop(_comparable(key), {})
            yield None if skip > 0 else rejected or self._pair(shard, key, members, row)

    def _pair(self, shard: str, key: str, members: dict[str, bytes], row: Row) -> SourcePair | Rejected:
        place = f"{shard}/{key}"
        try:
            row = row | row_of_json(members.get("json", b"{}"), "broken json")
            if self._metadata:
                row |= self._metadata.row_of(row)
            _refuse_failed(row)
            kind = next((kind for kind in _PICTURES if kind in members), None)
            if kind is None:
                raise RejectedError("no picture", f"the sample has {', '.join(sorted(members)) or 'nothing known'}")
            try:
                text = members.get("txt", b"").decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise RejectedError("bad characters", f"{key}.txt is not UTF-8") from error
            return pair_of(row, place=place, identifier=key, image=members[kind], text=text)
        except RejectedError as error:
            return Rejected(place, error.reason, error.detail)

    def _table(self, name: str) -> tuple[dict[str, Row], list[Rejected]]:
        """The rows of what was downloaded, by key, and what the others say."""
        if not parquet_installed():
            return {}, [Rejected(name, "table not read", f"pyarrow is not installed: {PARQUET_HINT}")]
        rows, failed = dict[str, Row](), list[Rejected]()
        try:
            with self._files.open(name) as file:
                for place, row in parquet_rows(name, file, _COLUMNS):
                    try:
                        if isinstance(row, RejectedError):
                            raise row
                        key = first(row, ("key",))
                        _refuse_failed(row)
                        if not key:
                            raise RejectedError("broken table", "the row has no key")
                        rows[_comparable(key)] = row
                    except RejectedError as error:
                        failed.append(Rejected(place, error.reason, error.detail))
        except RejectedError as error:
            failed.append(Rejected(name, error.reason, error.detail))
        return rows, failed


def _refuse_failed(row: Row) -> None:
    """Raises what img2dataset says of a picture that it did not download or could not resize."""
    status = first(row, ("status",)) or "success"
    if status != "success":
        raise RejectedError(": ".join(filter(None, [status.replace("_", " "), first(row, ("error_message",))]))[:80])


def _comparable(key: str) -> str:
    """Early versions of img2dataset write a table's keys as numbers, without the zeros of the tar's."""
    return key.lstrip("0") if key.isdigit() else key


def _key_and_kind(name: str) -> tuple[str, str]:
    """A sample's key is its members' path up to the first dot of the file's name, as WebDataset has it."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}{slash}{stem}", kind.lower()


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str) -> bytes:
    if ".." in PurePosixPath(member.name).parts or member.name.startswith("/"):
        raise RejectedError("path outside the source")
    file = tar.extractfile(member) if member.isfile() else None
    if file is None:
        raise RejectedError("unreadable file", "it is a link or a device")
    limit = MAXIMUM_PICTURE_BYTES if kind in _PICTURES else _MAXIMUM_NOTE_BYTES
    if member.size > limit:
        what = "picture" if kind in _PICTURES else "caption"
        raise RejectedError(f"{what} file too large", f"{member.size:,} bytes, at most {limit:,}")
    return file.read()


def _how_it_ends(shard: str, file: BinaryIO, place: int) -> Iterator[Rejected]:
    """What is wrong after the last sample: tarfile takes a broken header for the end, and so loses what follows."""
    file.seek(place)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        yield Rejected(shard, "cut off shard", "the archive has no end; what followed is lost")
    elif any(block) or len(block) < tarfile.BLOCKSIZE:
        yield Rejected(shard, "broken shard", f"there is no header at byte {place:,}; the rest of it is lost")
