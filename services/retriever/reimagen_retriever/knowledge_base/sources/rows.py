"""Columns of the tables that sources carry, whose names and letter case differ from one to the next."""

from collections.abc import Mapping

TEXT_COLUMNS = ("caption", "text")
SOURCE_COLUMNS = ("source", "url")
LICENSE_COLUMNS = ("license",)
ID_COLUMNS = ("id",)


def lower_columns(row: Mapping[str | None, object]) -> dict[str, str]:
    """A row with its column names in lower case and its values as text, nulls as ''."""
    return {name.strip().lower(): "" if value is None else str(value) for name, value in row.items() if name}


def first(row: Mapping[str, str], columns: tuple[str, ...]) -> str:
    """The value of the first of the columns that is filled, or ''."""
    return next((row[column] for column in columns if row.get(column)), "")
