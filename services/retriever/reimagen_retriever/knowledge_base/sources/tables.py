"""Tables in CSV, JSON lines and Parquet, read row by row.

Each row comes with its location, such as `captions.csv:7`. A row that can't be read comes as an error. Bytes that are
not UTF-8 become surrogates, so that the field's check later rejects only that row.
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
_BATCH_ROWS = 1_024
_START_BYTES = 4_096

Rows = Iterator[tuple[str, Row | RejectedError]]


def rows(files: Files, name: str) -> Rows:
    """Yield the rows of a table, whose file ending gives the format.

    Raises:
        InvalidArgument: The table is Parquet and pyarrow is not installed.
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
    """Return the number of a table's rows, or of its lines if it is text; 0 if it can't be read."""
    try:
        with files.open(name) as file:
            if name.lower().endswith(".parquet"):
                return int(_parquet().ParquetFile(file).metadata.num_rows)
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
            return max(lines - name.lower().endswith(".csv"), 0)
    except ReimagenError:
        raise
    except Exception:  # noqa: BLE001 - errors are reported when the rows are read.
        return 0


def csv_rows(name: str, file: BinaryIO) -> Rows:
    """Yield the rows of a CSV file with a header; a row's location is the line on which it begins."""
    header: list[str] | None = None
    for number, fields in csv_records(file):
        if isinstance(fields, RejectedError):
            yield f"{name}:{number}", fields
        elif header is None:
            header = fields
        elif any(field.strip() for field in fields[len(header) :]):
            detail = f"{len(fields)} fields, the header has {len(header)}; quote captions that contain commas"
            yield f"{name}:{number}", RejectedError("surplus fields", detail)
        else:
            yield f"{name}:{number}", as_row(zip(header, fields, strict=False))


def columns(files: Files, name: str) -> list[str] | None:
    """Return the names of a table's columns, unchanged; None for JSON lines, where each row names its own.

    Raises:
        RejectedError: The file can't be read, is not UTF-8, or is not Parquet.
        InvalidArgument: The table is Parquet and pyarrow is not installed.
    """
    with files.open(name) as file:
        if name.lower().endswith(".parquet"):
            try:
                return list(_parquet().ParquetFile(file).schema_arrow.names)
            except ReimagenError:
                raise
            except Exception as error:  # Arrow's readers raise errors of many classes.
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
    """Yield the rows of a file with one JSON object on each line."""
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
    """Yield the rows of a Parquet file, which is read in batches.

    Args:
        name: Name of the file, for locations.
        file: Seekable file.
        columns: Lower-case names of the columns to read, some of which may be missing; by default all.

    Raises:
        InvalidArgument: pyarrow is not installed.
    """
    number = 0
    try:
        table = _parquet().ParquetFile(file)
        names = table.schema_arrow.names
        selected = [column for column in names if columns is None or column.strip().lower() in columns]
        for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=selected):
            values = [_values(column) for column in batch.columns]
            for row in zip(*values, strict=True) if values else ():
                number += 1
                yield f"{name}:{number}", as_row(zip(batch.schema.names, row, strict=True))
    except ReimagenError:
        raise
    except Exception as error:  # noqa: BLE001 - Arrow's readers raise errors of many classes.
        yield f"{name}:{number + 1}", RejectedError("broken parquet", str(error) or type(error).__name__)


def parquet_installed() -> bool:
    """Return whether pyarrow, which reads Parquet, is installed."""
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
            f"Parquet needs pyarrow, which is not installed: {PARQUET_HINT}", field="source"
        ) from error
    return parquet


def _values(column: Any) -> list[object]:
    """Return a column's values; text has surrogates for bytes that are not UTF-8."""
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
