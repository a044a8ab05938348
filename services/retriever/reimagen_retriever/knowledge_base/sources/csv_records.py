"""Reader of CSV records in which a broken record does not swallow the lines after it."""

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from reimagen_common.images import IMAGE_ENDINGS
from reimagen_retriever.knowledge_base.pair import RejectedError

_MAXIMUM_LINE = 1024 * 1024
_MAXIMUM_RECORD = 128 * 1024
"""Most characters of a record of several lines; bounds what a quote that is never closed swallows."""


def csv_records(file: BinaryIO) -> Iterator[tuple[int, list[str] | RejectedError]]:
    """Yield each record, including the header, with the number of its first line.

    Bytes that are not UTF-8 become surrogates. A line with an unclosed quote is reported, and the lines after it are
    read as separate records.
    """
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text)
        fields_of_header = 0
        while True:
            first = lines.number + 1
            taken = list[str]()
            try:
                fields = next(csv.reader(_lines_of_record(lines, taken), strict=True), None)
                if fields and len(taken) > 1 and _contains_a_row(taken[1:], fields_of_header):
                    raise csv.Error("it swallows the rows after it")
            except csv.Error as error:
                lines.put_back(taken[1:])
                detail = f"a quote that is not closed: {error}" if len(taken) > 1 else str(error)
                yield first, RejectedError("broken line", detail)
                continue
            if fields is None:
                return
            if fields:  # A blank line has none.
                fields_of_header = fields_of_header or len(fields)
                yield first, fields


class _Lines:
    """The lines of a file, with the option to put lines back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.number = 0
        """Number of the last line that was taken."""
        self._text = text
        self._back = deque[str]()

    def take(self) -> str:
        """Return the next line, or '' after the last."""
        line = self._back.popleft() if self._back else self._text.readline(_MAXIMUM_LINE)
        self.number += bool(line)
        return line

    def skip_to_the_end_of_the_line(self) -> None:
        while (rest := self._text.readline(_MAXIMUM_LINE)) and not rest.endswith(("\n", "\r")):
            pass

    def put_back(self, lines: list[str]) -> None:
        """Put back the last lines that were taken; `take` returns them again."""
        self.number -= len(lines)
        self._back.extendleft(reversed(lines))


def _lines_of_record(lines: _Lines, taken: list[str]) -> Iterator[str]:
    """Yield the next lines, as many as a record needs, and append them to `taken`.

    Raises:
        csv.Error: A line or the record is too long.
    """
    size = 0
    while line := lines.take():
        taken.append(line)
        size += len(line)
        if len(line) == _MAXIMUM_LINE and not line.endswith(("\n", "\r")):
            taken[-1] = line[:-1] + "\n"  # When put back, it is a separate, broken record.
            lines.skip_to_the_end_of_the_line()
            raise csv.Error(f"longer than {_MAXIMUM_LINE:,} characters")
        if len(taken) > 1 and size > _MAXIMUM_RECORD:
            raise csv.Error(f"the record is longer than {_MAXIMUM_RECORD:,} characters")
        yield line


def _contains_a_row(lines: list[str], fields: int) -> bool:
    """Return whether a further line of a record is a row itself: the same number of fields, and an image's name."""
    for line in lines:
        row = next(csv.reader([line]), [])
        if fields > 1 and len(row) == fields and any(field.lower().endswith(IMAGE_ENDINGS) for field in row):
            return True
    return False
