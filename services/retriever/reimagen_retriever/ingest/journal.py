"""What an unfinished build has done, so that it goes on from there when it is called again.

Beside the shards of the unfinished folder lies `journal/`: `origin.json` says what is built from what, and each
finished shard has a record, written last. A shard without its record is written anew.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.shards import Shard
from reimagen_retriever.knowledge_base.syncing import write_whole

_FOLDER = "journal"
_ORIGIN = "origin"
FINGERPRINT_BYTES = 192
_REASONS = 100
"""More of them are counted as one: some hold what a server said."""


class Record(BaseModel):
    """What became of a run of the source's entries."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    entries: int = Field(description="Of the source, read when this was written, those of earlier records too.")
    complete: bool = Field(description="Whether that was all of the source.")
    shard: Shard | None = Field(description="Where its pairs are; None where there is none.")
    pairs: list[StoredPair] = Field(description="Those that were taken in.")
    fingerprints: bytes = Field(description="Of their images, one after the other.")
    rejected: dict[str, int] = Field(description="Reason to the number of entries that were left out.")

    def pairs_and_fingerprints(self) -> Iterator[tuple[StoredPair, bytes]]:
        """Each pair with its image's fingerprint."""
        for number, pair in enumerate(self.pairs):
            yield pair, self.fingerprints[number * FINGERPRINT_BYTES : (number + 1) * FINGERPRINT_BYTES]


class Part:
    """What became of the entries since the last record."""

    def __init__(self) -> None:
        self._pairs: list[StoredPair] = []
        self._fingerprints = bytearray()
        self._reasons = Counter[str]()

    def add(self, pair: StoredPair, fingerprint: bytes) -> None:
        """Notes a pair that was taken in."""
        self._pairs.append(pair)
        self._fingerprints += fingerprint

    def reject(self, reason: str, count: int = 1) -> None:
        """Notes entries that were left out."""
        known = reason in self._reasons or len(self._reasons) < _REASONS
        self._reasons[reason if known else "other reasons"] += count

    def record(self, entries: int, shard: Shard | None, *, complete: bool) -> Record:
        """All of it, for the journal, see `Record`."""
        return Record(
            entries=entries,
            complete=complete,
            shard=shard,
            pairs=self._pairs,
            fingerprints=bytes(self._fingerprints),
            rejected=dict(self._reasons),
        )


class Journal:
    """The records of an unfinished build, in their order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER
        self._count = len(list(self._folder.glob("[0-9]*.json"))) if self._folder.is_dir() else 0

    @classmethod
    def start(cls, folder: Path, origin: str) -> Self:
        """Begins a journal in a new folder."""
        (folder / _FOLDER).mkdir(parents=True)
        write_whole(folder / _FOLDER / _ORIGIN, origin.encode())
        return cls(folder)

    @staticmethod
    def find(knowledge_base: Path, origin: str) -> Path | None:
        """The folder of a build of that origin that has come somewhere, if there is one and it is whole."""
        for path in sorted(knowledge_base.glob(f"data-*/{_FOLDER}/{_ORIGIN}")):
            folder = path.parents[1]
            journal = Journal(folder)
            try:
                if (
                    path.read_text() == origin
                    and len(journal)
                    and all(is_whole(*each) for each in journal.shards(folder))
                ):
                    return folder
            except (OSError, ValidationError):
                continue
        return None

    def __len__(self) -> int:
        return self._count

    def records(self) -> Iterator[Record]:
        """All of them, one at a time: each has the pairs of a shard."""
        for number in range(self._count):
            yield Record.model_validate_json((self._folder / f"{number:05d}.json").read_bytes())

    def shards(self, folder: Path) -> Iterator[tuple[Path, int]]:
        """The files that the records name, and the sizes that they must have."""
        for record in self.records():
            if record.shard:
                yield folder / "shards" / record.shard.name, record.shard.size

    def append(self, record: Record) -> None:
        """Adds a record, safe on disk when this returns."""
        write_whole(self._folder / f"{self._count:05d}.json", record.model_dump_json().encode())
        self._count += 1

    def remove(self) -> None:
        """Removes it: the build is done."""
        shutil.rmtree(self._folder)


def is_whole(path: Path, size: int) -> bool:
    """Whether a shard is there in the size that it must have, in bytes."""
    return path.is_file() and path.stat().st_size == size
