"""WebDataset shards as img2dataset writes them: `KEY.jpg`, `KEY.txt` and `KEY.json`, one after the other."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.picture import MAXIMUM_PICTURE_BYTES
from reimagen_retriever.knowledge_base.sources.rows import (
    ID_COLUMNS,
    LICENSE_COLUMNS,
    SOURCE_COLUMNS,
    TEXT_COLUMNS,
    first,
    lower_columns,
)

_PICTURES = ("png", "jpg", "jpeg", "webp")
_MEMBERS = frozenset({*_PICTURES, "txt", "json"})
_MAXIMUM_NOTE_BYTES = 1024 * 1024  # of a .txt or .json member


class WebDatasetSource:
    """Pairs of tar shards; a pair's id is its `id` column if there is one, else its key."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = shards

    def size(self) -> int:
        """How many pairs img2dataset says it wrote, or 0 where it left no statistics."""
        total = 0
        for shard in self._shards:
            try:
                statistics = json.loads(shard.with_name(f"{shard.stem}_stats.json").read_bytes())
                total += int(statistics["count"])
            except (OSError, ValueError, KeyError, TypeError):
                return 0
        return total

    def entries(self) -> Iterator[SourcePair | Rejected]:
        """Every sample, in the order of the shards and of the samples in them."""
        for shard in self._shards:
            try:
                with tarfile.open(shard, "r:") as tar:
                    yield from self._samples(shard, tar)
                if not _properly_ended(shard):
                    yield Rejected(shard.name, "cut off shard", "the archive has no end; what followed is lost")
            except (tarfile.TarError, OSError, EOFError) as error:
                yield Rejected(shard.name, "broken shard", f"{error}; the rest of it is lost")

    def _samples(self, shard: Path, tar: tarfile.TarFile) -> Iterator[SourcePair | Rejected]:
        key, members = "", dict[str, bytes]()
        rejected: Rejected | None = None
        for member in tar:
            # A long build would otherwise keep the header of every member it has passed.
            tar.members = []  # type: ignore[attr-defined]
            if member.isdir():
                continue
            member_key, kind = _key_and_kind(member.name)
            if member_key != key:
                if key:
                    yield rejected or self._pair(shard, key, members)
                key, members, rejected = member_key, {}, None
            if kind in _MEMBERS:
                try:
                    members[kind] = _read(tar, member, kind)
                except RejectedError as error:
                    rejected = Rejected(f"{shard.name}/{member.name}", error.reason, error.detail)
        if key:
            yield rejected or self._pair(shard, key, members)

    @staticmethod
    def _pair(shard: Path, key: str, members: dict[str, bytes]) -> SourcePair | Rejected:
        place = f"{shard.name}/{key}"
        try:
            columns = _columns(members.get("json", b"{}"))
            if columns.get("status", "success") != "success":
                raise RejectedError("not downloaded", columns.get("error_message", "") or columns["status"])
            kind = next((kind for kind in _PICTURES if kind in members), None)
            if kind is None:
                raise RejectedError("no picture", f"the sample has {', '.join(sorted(members)) or 'nothing known'}")
            try:
                text = members.get("txt", b"").decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise RejectedError("bad characters", f"{key}.txt is not UTF-8") from error
            return SourcePair(
                place=place,
                id=first(columns, ID_COLUMNS) or key,
                text=text if text.strip() else first(columns, TEXT_COLUMNS),
                image=members[kind],
                source=first(columns, SOURCE_COLUMNS),
                license=first(columns, LICENSE_COLUMNS),
            )
        except RejectedError as error:
            return Rejected(place, error.reason, error.detail)


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


def _columns(data: bytes) -> dict[str, str]:
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RejectedError("broken json", str(error)) from error
    if not isinstance(row, dict):
        raise RejectedError("broken json", "not a JSON object")
    return lower_columns(row)


def _properly_ended(shard: Path) -> bool:
    """Whether the archive ends in the blocks of zeros that every writer of tar files puts there last."""
    with shard.open("rb") as file:
        file.seek(max(shard.stat().st_size - tarfile.BLOCKSIZE, 0))
        return not any(file.read())
