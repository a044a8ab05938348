"""Tables in CSV, JSON lines and Parquet, read row by row.

A row comes with its location, such as `captions.csv:7`; in its stead comes the error of a row that can't be read. Bytes
that are no UTF-8 become surrogates, which the check of the field refuses for that row alone.
"""

from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_retriever.knowledge_base.pair import RejectedError
from reimagen_retriever.knowledge_base.sources.csv_records import csv_records
from reimagen_retriever.knowledge_base.sources.files import Files
from reimagen_retriever.knowledge_base.sources.rows import Row, as_row, row_of_json
from reimagen_retriever.knowledge_base.sources.texts import refuse_utf16

PARQUET_HINT = "pip install 'reimagen-retriever[parquet]'"
_MAXIMUM_LINE_BYTES = 1024 * 1024
_ROWS_AT_ONCE = 1_024
_START_BYTES = 4_096

Rows = Iterator[tuple[str, Row | RejectedError]]


def rows(files: Files, name: str) -> Rows:
    """The rows of a table, whose ending says what it is.

    Raises:
        InvalidArgument: it is Parquet, and what reads that is not installed.
    """
    ending = name.rpartition(".")[2].lower()
    read = {"csv": csv_rows, "jsonl": json_rows, "parquet": parquet_rows}[ending]
    try:
        file = files.open(name)
    except RejectedError as error:
        yield name, error
        return
    with file:
        yield from read(name, file)


def count(files: Files, name: str) -> int:
    """How many rows a table has, or lines if it is text; 0 where that can't be told."""
    try:
        with files.open(name) as file:
            if name.lower().endswith(".parquet"):
                return int(_parquet().ParquetFile(file).metadata.num_rows)
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
            return max(lines - name.lower().endswith(".csv"), 0)
    except ReimagenError:
        raise
    except Exception:  # noqa: BLE001 - whatever is wrong with it is told when its rows are read.
        return 0


def csv_rows(name: str, file: BinaryIO) -> Rows:
    """The rows of a CSV file with a header; a row's location is the line on which it begins."""
    header: list[str] | None = None
    for number, fields in csv_records(file):
        if isinstance(fields, RejectedError):
            yield f"{name}:{number}", fields
        elif header is None:
            header = fields
        elif any(field.strip() for field in fields[len(header) :]):
            what = f"{len(fields)} fields, the header has {len(header)}; quote a caption with commas in it"
            yield f"{name}:{number}", RejectedError("surplus fields", what)
        else:
            yield f"{name}:{number}", as_row(zip(header, fields, strict=False))


def columns(files: Files, name: str) -> list[str] | None:
    """The names of a table's columns as they stand; None where each row has its own (JSON lines).

    Raises:
        RejectedError: the file can't be read, or is no UTF-8, or no Parquet.
        InvalidArgument: it is Parquet, and what reads that is not installed.
    """
    with files.open(name) as file:
        if name.lower().endswith(".parquet"):
            try:
                return list(_parquet().ParquetFile(file).schema_arrow.names)
            except ReimagenError:
                raise
            except Exception as error:  # Arrow's readers raise many kinds of errors.
                raise RejectedError("broken parquet", str(error) or type(error).__name__) from error
        refuse_utf16(name, file.read(_START_BYTES))
        if not name.lower().endswith(".csv"):
            return None
        file.seek(0)
        _, fields = next(csv_records(file), (1, list[str]()))
        if isinstance(fields, RejectedError):
            raise fields
        return fields


def json_rows(name: str, file: BinaryIO) -> Rows:
    """The rows of a file with a JSON object a line."""
    number = 0
    while line := file.readline(_MAXIMUM_LINE_BYTES + 1):
        number += 1
        if len(line) > _MAXIMUM_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(_MAXIMUM_LINE_BYTES)
            yield f"{name}:{number}", RejectedError("broken line", f"longer than {_MAXIMUM_LINE_BYTES:,} bytes")
            continue
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
            yield f"{name}:{number}", row_of_json(text, "broken line")
        except RejectedError as error:
            yield f"{name}:{number}", error


def parquet_rows(name: str, file: BinaryIO, columns: Collection[str] | None = None) -> Rows:
    """The rows of a Parquet file, a batch at a time.

    Args:
        name: of the file, for places.
        file: can be sought in.
        columns: names in lower case of those to read, of which the file may lack some; by default all.

    Raises:
        InvalidArgument: what reads Parquet is not installed.
    """
    number = 0
    try:
        table = _parquet().ParquetFile(file)
        named = table.schema_arrow.names
        wanted = [column for column in named if columns is None or column.strip().lower() in columns]
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            values = [_values(column) for column in batch.columns]
            for row in zip(*values, strict=True) if values else ():
                number += 1
                yield f"{name}:{number}", as_row(zip(batch.schema.names, row, strict=True))
    except ReimagenError:
        raise
    except Exception as error:  # noqa: BLE001 - Arrow's readers raise whatever they stumble upon.
        yield f"{name}:{number + 1}", RejectedError("broken parquet", str(error) or type(error).__name__)


def parquet_installed() -> bool:
    """Whether Parquet can be read."""
    try:
        _parquet()
    except InvalidArgument:
        return False
    return True


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidArgument(
            f"Parquet is read by pyarrow, which is not installed: {PARQUET_HINT}", field="source"
        ) from error
    return parquet


def _values(column: Any) -> list[object]:
    """A column's values, text with surrogates for bytes that are no UTF-8."""
    import pyarrow as pa

    if not (
        pa.types.is_string(column.type)
        or pa.types.is_binary(column.type)
        or pa.types.is_large_string(column.type)
        or pa.types.is_large_binary(column.type)
    ):
        values: list[object] = column.to_pylist()
        return values
    raw = column.cast(pa.large_binary())
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw.to_pylist()]
