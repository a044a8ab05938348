"""Rows of the tables that sources carry: their columns' names and letter case differ from one to the next."""

import json
import math
from collections.abc import Iterable, Sequence

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


def as_row(values: Iterable[tuple[str | None, object]]) -> Row:
    """Values by the lower-case names of their columns; of two that differ in case alone, the first that is filled.

    NaN and Infinity stand for what is missing, as pandas writes it.
    """
    row: Row = {}
    for name, value in values:
        if name and value is not None and value != "" and not (isinstance(value, float) and not math.isfinite(value)):
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
    return as_row(values.items())


def first(row: Row, columns: tuple[str, ...]) -> str:
    """The value of the first of the columns that is filled, or ''. True and false are no text.

    Raises:
        RejectedError: it is neither text nor a number.
    """
    column = next((column for column in columns if not isinstance(row.get(column), bool | None)), None)
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
    """How likely the image is unsafe, 0 to 1, or None: `punsafe`, else `NSFW`'s UNLIKELY, UNSURE and NSFW."""
    probability = number(row, "punsafe")
    if probability is not None:
        return min(max(probability, 0.0), 1.0)
    return _NSFW.get(str(row.get("nsfw", "")).strip().upper())


def pair_of(row: Row, *, location: str, identifier: str, image: bytes, text: str | None = None) -> SourcePair:
    """The pair that a row describes.

    Args:
        row: its columns.
        location: where it stands in the source.
        identifier: its id where the row has none.
        image: its image's file.
        text: its caption from a file of its own, before that of the row; None where there is no such file.

    Raises:
        RejectedError: a column has a wrong type, or there is no caption.
    """
    caption = text if text and text.strip() else first(row, TEXT_COLUMNS)
    if not caption and text is None:
        raise RejectedError("no caption", none_filled(TEXT_COLUMNS, row))
    return SourcePair(
        location=location,
        id=first(row, ID_COLUMNS) or identifier,
        caption=caption,
        image=image,
        source=first(row, SOURCE_COLUMNS),
        license=first(row, LICENSE_COLUMNS),
        unsafe=unsafe(row),
        watermark=number(row, "pwatermark"),
        similarity=number(row, "similarity"),
    )


def joined(captions: Sequence[str]) -> str:
    """Several captions of an image as one text: each that does not end a sentence gets a full stop."""
    if len(captions) == 1:
        return captions[0]
    texts = (" ".join(caption.split()) for caption in captions)
    return " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in texts if text)


def none_filled(columns: Sequence[str], row: Row) -> str:
    """Tells that a row has none of the columns, and which it has."""
    there = f"; the row has {', '.join(row)}"[:200] if row else ""
    return f"none of the columns {', '.join(columns)} is filled{there}"
