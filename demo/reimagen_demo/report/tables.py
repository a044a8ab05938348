"""The table of measures: each with its bar, earlier weights, these weights, true images, and whether the bar is met."""

from collections.abc import Sequence
from typing import Final, NamedTuple

TRUE: Final = "true"


class Row(NamedTuple):
    """A measure in words."""

    measure: str
    bar: str
    before: str
    now: str
    true: str
    met: bool | None
    """None without a bar or without a measurement."""


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown; empty without rows."""
    if not rows:
        return ""
    lines = ["| measure | bar | before | these weights | true images | met |", "|---|---|---|---|---|---|"]
    verdicts = {None: "", True: "yes", False: "**no**"}
    return "\n".join([*lines, *(f"| {' | '.join(row[:-1])} | {verdicts[row.met]} |" for row in rows)])
