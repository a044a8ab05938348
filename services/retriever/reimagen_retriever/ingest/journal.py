"""Journal of an unfinished build, from which the build resumes when it is run again.

The unfinished data folder has a `journal/` beside its shards: `origin` is a digest of source and options, and each
finished shard has a record, which is written after the shard. A shard without a record is written again.
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
"""Most distinct reasons to count; further ones are counted together, because some contain a server's message."""


class Record(BaseModel):
    """The outcome of a sequence of the source's entries."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    entries: int = Field(description="Number of the source's entries read so far, including those of earlier records.")
    complete: bool = Field(description="Whether the source was read to its end.")
    shard: Shard | None = Field(description="Shard that holds the pairs; None without pairs.")
    pairs: list[StoredPair] = Field(description="Pairs that were stored.")
    fingerprints: bytes = Field(description="Concatenated fingerprints of the pairs' images.")
    rejected: dict[str, int] = Field(description="Number of rejected entries for each reason.")

    def pairs_and_fingerprints(self) -> Iterator[tuple[StoredPair, bytes]]:
        """Yield each pair with its image's fingerprint."""
        for number, pair in enumerate(self.pairs):
            yield pair, self.fingerprints[number * FINGERPRINT_BYTES : (number + 1) * FINGERPRINT_BYTES]


class Part:
    """The outcome of the entries since the last record."""

    def __init__(self) -> None:
        self._pairs: list[StoredPair] = []
        self._fingerprints = bytearray()
        self._reasons = Counter[str]()

    def add(self, pair: StoredPair, fingerprint: bytes) -> None:
        """Add a stored pair."""
        self._pairs.append(pair)
        self._fingerprints += fingerprint

    def reject(self, reason: str, count: int = 1) -> None:
        """Count rejected entries."""
        known = reason in self._reasons or len(self._reasons) < _REASONS
        self._reasons[reason if known else "other reasons"] += count

    def record(self, entries: int, shard: Shard | None, *, complete: bool) -> Record:
        """Return the record for the journal, see `Record`."""
        return Record(
            entries=entries,
            complete=complete,
            shard=shard,
            pairs=self._pairs,
            fingerprints=bytes(self._fingerprints),
            rejected=dict(self._reasons),
        )


class Journal:
    """The records of an unfinished build, in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER
        self._count = len(list(self._folder.glob("[0-9]*.json"))) if self._folder.is_dir() else 0

    @classmethod
    def start(cls, folder: Path, origin: str) -> Self:
        """Create a journal in a new data folder."""
        (folder / _FOLDER).mkdir(parents=True)
        write_whole(folder / _FOLDER / _ORIGIN, origin.encode())
        return cls(folder)

    @staticmethod
    def find(knowledge_base: Path, origin: str) -> Path | None:
        """Return the data folder of an intact unfinished build with that origin and at least one record, or None."""
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
        """Yield the records, loading one at a time: each has the pairs of a whole shard."""
        for number in range(self._count):
            yield Record.model_validate_json((self._folder / f"{number:05d}.json").read_bytes())

    def shards(self, folder: Path) -> Iterator[tuple[Path, int]]:
        """Yield the shard files in the records, with their sizes in bytes."""
        for record in self.records():
            if record.shard:
                yield folder / "shards" / record.shard.name, record.shard.size

    def append(self, record: Record) -> None:
        """Append a record durably."""
        write_whole(self._folder / f"{self._count:05d}.json", record.model_dump_json().encode())
        self._count += 1

    def remove(self) -> None:
        """Remove the journal of a finished build."""
        shutil.rmtree(self._folder)


def is_whole(path: Path, size: int) -> bool:
    """Return whether a shard exists with the given size in bytes."""
    return path.is_file() and path.stat().st_size == size
