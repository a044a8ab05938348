"""Records of CSV files, of which a broken one does not take the lines after it along."""

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from reimagen_common.images import IMAGE_ENDINGS
from reimagen_retriever.knowledge_base.pair import RejectedError

_MAXIMUM_LINE = 1024 * 1024
_MAXIMUM_RECORD = 128 * 1024
"""Characters of a record of several lines: a quote that is never closed takes in no more."""


def csv_records(file: BinaryIO) -> Iterator[tuple[int, list[str] | RejectedError]]:
    """Each record with the number of its first line, the header too; bytes that are no UTF-8 become surrogates.

    A line with an unclosed quote is reported, and the lines after it are read as records of their own.
    """
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text)
        fields_of_header = 0
        while True:
            first = lines.number + 1
            taken = list[str]()
            try:
                fields = next(csv.reader(_taking(lines, taken), strict=True), None)
                if fields and len(taken) > 1 and _swallowed(taken[1:], fields_of_header):
                    raise csv.Error("it takes in the rows after it")
            except csv.Error as error:
                lines.give_back(taken[1:])
                what = f"a quote that is not closed: {error}" if len(taken) > 1 else str(error)
                yield first, RejectedError("broken line", what)
                continue
            if fields is None:
                return
            if fields:  # A blank line has none.
                fields_of_header = fields_of_header or len(fields)
                yield first, fields


class _Lines:
    """The lines of a file, which may be given back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.number = 0
        """Of the last line that was taken."""
        self._text = text
        self._back = deque[str]()

    def take(self) -> str:
        """The next line, or '' after the last."""
        line = self._back.popleft() if self._back else self._text.readline(_MAXIMUM_LINE)
        self.number += bool(line)
        return line

    def skip_to_the_end_of_the_line(self) -> None:
        while (rest := self._text.readline(_MAXIMUM_LINE)) and not rest.endswith(("\n", "\r")):
            pass

    def give_back(self, lines: list[str]) -> None:
        """Makes these lines, the last that were taken, the next ones."""
        self.number -= len(lines)
        self._back.extendleft(reversed(lines))


def _taking(lines: _Lines, taken: list[str]) -> Iterator[str]:
    """The next lines, noted in `taken`, as many as a record needs.

    Raises:
        csv.Error: a line or the record is too long.
    """
    size = 0
    while line := lines.take():
        taken.append(line)
        size += len(line)
        if len(line) == _MAXIMUM_LINE and not line.endswith(("\n", "\r")):
            taken[-1] = line[:-1] + "\n"  # Given back, it is a broken record of its own.
            lines.skip_to_the_end_of_the_line()
            raise csv.Error(f"longer than {_MAXIMUM_LINE:,} characters")
        if len(taken) > 1 and size > _MAXIMUM_RECORD:
            raise csv.Error(f"the record is longer than {_MAXIMUM_RECORD:,} characters")
        yield line


def _swallowed(lines: list[str], fields: int) -> bool:
    """Whether one of the further lines of a record is a row itself: as many fields, and an image's name."""
    for line in lines:
        row = next(csv.reader([line]), [])
        if fields > 1 and len(row) == fields and any(field.lower().endswith(IMAGE_ENDINGS) for field in row):
            return True
    return False
