"""Rows of the tables that sources carry: their columns' names and letter case differ from one to the next."""

import json
import math
from collections.abc import Mapping

from reimagen_retriever.knowledge_base.pair import RejectedError, SourcePair

Row = dict[str, object]
"""A row's values by column names in lower case, nulls left out."""

TEXT_COLUMNS = ("caption", "text")
SOURCE_COLUMNS = ("source", "url")
LICENSE_COLUMNS = ("license",)
ID_COLUMNS = ("id",)
MEASURES = ("punsafe", "nsfw", "pwatermark", "similarity")
"""LAION's columns that say how good a pair is."""

_NSFW = {"UNLIKELY": 0.0, "UNSURE": 0.5, "NSFW": 1.0}


def as_row(values: Mapping[str | None, object]) -> Row:
    """Values by the lower-case names of their columns; of two that differ in case alone, the first that is filled."""
    row: Row = {}
    for name, value in values.items():
        if name and value is not None and value != "":
            row.setdefault(name.strip().lower(), value)
    return row


def row_of_json(data: bytes | str, reason: str) -> Row:
    """The row that a JSON object is.

    Raises:
        RejectedError: for that reason, it is none.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RejectedError(reason, str(error)) from error
    if not isinstance(values, dict):
        raise RejectedError(reason, "not a JSON object")
    return as_row(values)


def first(row: Row, columns: tuple[str, ...]) -> str:
    """The value of the first of the columns that is filled, or ''.

    Raises:
        RejectedError: it is neither text nor a number.
    """
    column = next((column for column in columns if column in row), None)
    if column is None:
        return ""
    match row[column]:
        case str() as text:
            return text
        case int() | float() as number:
            return str(number)
        case value:
            raise RejectedError("wrong type", f"{column} is a {type(value).__name__}, not text")


def number(row: Row, column: str) -> float | None:
    """The column's number, or None where there is none."""
    value = row.get(column)
    if not isinstance(value, (str, int, float)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def unsafe(row: Row) -> float | None:
    """How likely the picture is unsafe, 0 to 1, or None: `punsafe`, else `NSFW`'s UNLIKELY, UNSURE and NSFW."""
    probability = number(row, "punsafe")
    if probability is not None:
        return min(max(probability, 0.0), 1.0)
    return _NSFW.get(str(row.get("nsfw", "")).strip().upper())


def pair_of(row: Row, *, place: str, identifier: str, image: bytes, text: str = "") -> SourcePair:
    """The pair that a row describes.

    Args:
        row: its columns.
        place: where it stands in the source.
        identifier: its id where the row has none.
        image: its picture's file.
        text: its caption, before that of the row.

    Raises:
        RejectedError: a column has a wrong type.
    """
    return SourcePair(
        place=place,
        id=first(row, ID_COLUMNS) or identifier,
        text=text if text.strip() else first(row, TEXT_COLUMNS),
        image=image,
        source=first(row, SOURCE_COLUMNS),
        license=first(row, LICENSE_COLUMNS),
        unsafe=unsafe(row),
        watermark=number(row, "pwatermark"),
        similarity=number(row, "similarity"),
    )
