"""What img2dataset writes besides images and captions: a note for each image, a table and counts for each shard."""

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
"""Of a caption or a note."""
COUNTS = "_stats.json"
"""How the name of a shard's, or a folder's, counts ends."""
_COLUMNS = frozenset(
    {"key", "status", "error_message", "sample_id", *MEASURES}
    | {*ID_COLUMNS, *TEXT_COLUMNS, *SOURCE_COLUMNS, *LICENSE_COLUMNS}
)


@dataclass(frozen=True)
class Table:
    """The table beside a shard, or beside a folder of images."""

    rows: dict[str, Row]
    """Of what was downloaded, by `comparable` key."""
    rejected: list[Rejected]
    """The other rows, with what they say."""

    def take(self, key: str) -> Row:
        """The row of a key, which is taken out, or an empty one."""
        return self.rows.pop(comparable(key), {})

    def missing(self, location: str) -> list[Rejected]:
        """The rows that nobody has taken: their images are not there."""
        told = "the table says that it was downloaded"
        return [Rejected(f"{location}/{first(row, ('key',))}", "no image", told) for row in self.rows.values()]


def no_table() -> Table:
    """What stands for a table that is not there."""
    return Table({}, [])


def read_table(files: Files, name: str) -> Table:
    """Reads a table."""
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
                    table.rows[comparable(key)] = row
                except RejectedError as error:
                    table.rejected.append(Rejected(location, error.reason, error.detail))
    except RejectedError as error:
        table.rejected.append(Rejected(name, error.reason, error.detail))
    return table


def refuse_failed(row: Row) -> None:
    """Raises what img2dataset says of an image that it did not download or could not resize.

    Raises:
        RejectedError: it says so.
    """
    status = first(row, ("status",)) or "success"
    if status != "success":
        raise RejectedError(": ".join(filter(None, [status.replace("_", " "), first(row, ("error_message",))]))[:80])


def comparable(key: str) -> str:
    """Early versions of img2dataset write a table's keys as numbers, without the zeros of the files' names."""
    return key.lstrip("0") if key.isdigit() else key
