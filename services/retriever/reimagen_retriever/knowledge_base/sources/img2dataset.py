"""img2dataset's other files: a JSON note for each image, and a table and statistics for each shard."""

from dataclasses import dataclass

from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError
from reimagen_retriever.knowledge_base.sources.files import Files
from reimagen_retriever.knowledge_base.sources.rows import (
    ID_COLUMNS,
    LICENSE_COLUMNS,
    MEASURES,
    SOURCE_COLUMNS,
    TEXT_COLUMNS,
    Row,
    first,
)
from reimagen_retriever.knowledge_base.sources.tables import PARQUET_HINT, parquet_installed, parquet_rows

MAXIMUM_NOTE_BYTES = 1024 * 1024
"""Largest size in bytes of a caption file or a JSON note."""
COUNTS = "_stats.json"
"""Ending of the name of a shard's or a folder's statistics file."""
_COLUMNS = frozenset(
    {"key", "status", "error_message", "sample_id", *MEASURES}
    | {*ID_COLUMNS, *TEXT_COLUMNS, *SOURCE_COLUMNS, *LICENSE_COLUMNS}
)


@dataclass(frozen=True)
class Table:
    """The table beside a shard, or beside a folder of images."""

    rows: dict[str, Row]
    """Rows of downloaded images, by their `comparable_key`."""
    rejected: list[Rejected]
    """Rows of images that were not downloaded, and broken rows."""

    def take(self, key: str) -> Row:
        """Remove and return the row of a key, or return an empty one."""
        return self.rows.pop(comparable_key(key), {})

    def missing(self, location: str) -> list[Rejected]:
        """Return a rejection for each row that was not taken: its image is missing."""
        detail = "the table says that it was downloaded"
        return [Rejected(f"{location}/{first(row, ('key',))}", "no image", detail) for row in self.rows.values()]


def no_table() -> Table:
    """Return an empty table, for a missing one."""
    return Table({}, [])


def read_table(files: Files, name: str) -> Table:
    """Read a table."""
    if not parquet_installed():
        return Table({}, [Rejected(name, "table not read", f"pyarrow is not installed: {PARQUET_HINT}")])
    table = no_table()
    try:
        with files.open(name) as file:
            for location, row in parquet_rows(name, file, _COLUMNS):
                try:
                    if isinstance(row, RejectedError):
                        raise row
                    key = first(row, ("key",))
                    refuse_failed(row)
                    if not key:
                        raise RejectedError("broken table", "the row has no key")
                    table.rows[comparable_key(key)] = row
                except RejectedError as error:
                    table.rejected.append(Rejected(location, error.reason, error.detail))
    except RejectedError as error:
        table.rejected.append(Rejected(name, error.reason, error.detail))
    return table


def refuse_failed(row: Row) -> None:
    """Raise img2dataset's error for an image that it could not download or resize.

    Raises:
        RejectedError: The row has such an error.
    """
    status = first(row, ("status",)) or "success"
    if status != "success":
        raise RejectedError(": ".join(filter(None, [status.replace("_", " "), first(row, ("error_message",))]))[:80])


def comparable_key(key: str) -> str:
    """Return a key without leading zeros: old versions of img2dataset write a table's keys as numbers."""
    return key.lstrip("0") if key.isdigit() else key
