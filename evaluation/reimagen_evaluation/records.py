"""CSV files that grow line by line and stay readable if the process is killed at any moment."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

Row = Mapping[str, object]

_LINE_ENDS = re.compile(r"[\r\n]")


def read(path: Path) -> list[dict[str, str]]:
    """Return the complete lines of a file, as dictionaries by column; an empty list if there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a process that was killed while writing leaves an incomplete last line
    return list(csv.DictReader(io.StringIO(whole)))


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append lines and flush them to the disk; the first row of a new file defines the columns.

    Raises:
        ValueError: the rows' columns differ from the file's, or a value has more than one line.
    """
    rows = list(rows)
    if not rows:
        return
    if any(_LINE_ENDS.search(str(value)) for row in rows for value in row.values()):
        raise ValueError(f"{path}: a value must be a single line, since each line is a row")
    _drop_torn_line(path)
    columns = list(rows[0])
    lines = io.StringIO()
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    if not path.exists() or path.stat().st_size == 0:
        writer.writeheader()
    elif (known := _columns(path)) != columns:
        raise ValueError(f"{path} has the columns {', '.join(known)}, not {', '.join(columns)}; move the file away")
    writer.writerows(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(lines.getvalue())
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a whole file; it appears under its name only when it is complete."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = io.StringIO()
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace(path, lines.getvalue().encode())


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


def _columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
