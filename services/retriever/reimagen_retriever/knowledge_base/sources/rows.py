"""Rows of a source's tables, whose columns differ in name and letter case between sources."""

import json
import math
from collections.abc import Iterable, Sequence

from reimagen_retriever.knowledge_base.pair import RejectedError, SourcePair

Row = dict[str, object]
"""A row's values by lower-case column name, without nulls."""

TEXT_COLUMNS = ("caption", "text")
SOURCE_COLUMNS = ("source", "url")
LICENSE_COLUMNS = ("license",)
ID_COLUMNS = ("id",)
MEASURES = ("punsafe", "nsfw", "pwatermark", "similarity")
"""LAION's columns that measure the quality of a pair."""

_NSFW = {"UNLIKELY": 0.0, "UNSURE": 0.5, "NSFW": 1.0}


def as_row(values: Iterable[tuple[str | None, object]]) -> Row:
    """Return the values by lower-case column name; of names that differ only in case, the first with a value counts.

    NaN and Infinity count as missing, because pandas writes missing values so.
    """
    row: Row = {}
    for name, value in values:
        if name and value is not None and value != "" and not (isinstance(value, float) and not math.isfinite(value)):
            row.setdefault(name.strip().lower(), value)
    return row


def row_of_json(data: bytes | str, reason: str) -> Row:
    """Parse a JSON object as a row.

    Raises:
        RejectedError: The data is not a JSON object; the error has the given reason.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RejectedError(reason, str(error)) from error
    if not isinstance(values, dict):
        raise RejectedError(reason, "not a JSON object")
    return as_row(values.items())


def first(row: Row, columns: tuple[str, ...]) -> str:
    """Return the value of the first of the columns that has one, or ''. True and false count as missing.

    Raises:
        RejectedError: The value is neither text nor a number.
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
    """Return the column's number, or None if it has none."""
    value = row.get(column)
    if not isinstance(value, (str, int, float)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def unsafe(row: Row) -> float | None:
    """Return the probability that the image is unsafe, 0 to 1, or None, from `punsafe` or else from `NSFW`.

    NSFW's values UNLIKELY, UNSURE and NSFW stand for 0, 0.5 and 1.
    """
    probability = number(row, "punsafe")
    if probability is not None:
        return min(max(probability, 0.0), 1.0)
    return _NSFW.get(str(row.get("nsfw", "")).strip().upper())


def pair_of(row: Row, *, location: str, identifier: str, image: bytes, text: str | None = None) -> SourcePair:
    """Return the pair that a row describes.

    Args:
        row: Columns of the row.
        location: Location of the row in the source.
        identifier: Id of the pair if the row has none.
        image: Content of the image file.
        text: Caption from a separate file, which takes precedence over the row's; None if there is no such file.

    Raises:
        RejectedError: A column has a wrong type, or there is no caption.
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
    """Join several captions of an image; a caption that does not end a sentence gets a period."""
    if len(captions) == 1:
        return captions[0]
    texts = (" ".join(caption.split()) for caption in captions)
    return " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in texts if text)


def none_filled(columns: Sequence[str], row: Row) -> str:
    """Return an error text that names the missing columns and those that the row has."""
    existing = f"; the row has {', '.join(row)}"[:200] if row else ""
    return f"none of the columns {', '.join(columns)} is filled{existing}"
