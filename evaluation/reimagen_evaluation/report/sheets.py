"""Sheets of images: each setting's images of the same prompts and seeds, next to the references."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.report.tables import Line
from reimagen_evaluation.runs import DRAWN

CELL = 128
"""Side of every image on a sheet, in pixels."""
MAXIMUM_BYTES = 300_000
_GAP, _LINE = 6, 16
_FONT = ImageFont.load_default(12)


@dataclass(frozen=True)
class Strip:
    """A row of a sheet: its title, and its image files, each with a label below; None for a gap."""

    title: str
    cells: Sequence[tuple[Path, str] | None]


def comparison(out: Path, rows: Sequence[Line], items: Sequence[Item], count: int) -> list[Strip]:
    """Return strips of the first items of each group: the references, then the image of each row's setting.

    Args:
        out: folder of the sweep.
        rows: rows of an axis's table.
        items: items of the axis.
        count: greatest number of items.
    """
    labels = {row.setting: row.label for row in rows}
    drawn = {setting: {key: row for (key, n), row in drawn_rows(out / setting).items() if n == 0} for setting in labels}
    shown = _first_of_groups([item for item in items if any(item.key in done for done in drawn.values())], count)
    found = [references(out, (done.get(item.key) for done in drawn.values()))[:2] for item in shown]
    width = max(map(len, found), default=0)
    strips = []
    for item, beside in zip(shown, found, strict=True):
        cells: list[tuple[Path, str] | None] = [*beside, *[None] * (width - len(beside))]
        for setting, label in labels.items():
            row = drawn[setting].get(item.key)
            cells.append((out / setting / row["file"], label) if row else None)
        strips.append(Strip(item.prompt, cells))
    return strips


def _first_of_groups(items: Sequence[Item], count: int) -> list[Item]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    of_each = max(1, count // max(1, len(groups)))
    return [item for group in groups.values() for item in group[:of_each]]


def drawn_rows(folder: Path) -> dict[tuple[str, int], dict[str, str]]:
    """Return the rows of a setting's drawn.csv, by item and sample."""
    return {(row["key"], int(row["sample"])): row for row in records.read(folder / DRAWN)}


def references(out: Path, rows: Iterable[Mapping[str, str] | None]) -> list[tuple[Path, str]]:
    """Return the references of the first row that has any."""
    for row in rows:
        if row and row["neighbors"]:
            return [(out / "references" / name, "reference") for name in row["neighbors"].split()]
    return []


def sheet(strips: Sequence[Strip]) -> Image.Image:
    """Return one image with the strips below each other."""
    columns = max(len(strip.cells) for strip in strips)
    height = _LINE + CELL + _LINE + _GAP
    canvas = Image.new("RGB", (_GAP + columns * (CELL + _GAP), _GAP + height * len(strips)), "white")
    draw = ImageDraw.Draw(canvas)
    for number, strip in enumerate(strips):
        top = _GAP + number * height
        draw.text((_GAP, top), _cut(strip.title, canvas.width - 2 * _GAP), fill="black", font=_FONT)
        for column, cell in enumerate(strip.cells):
            if cell is not None:
                left = _GAP + column * (CELL + _GAP)
                canvas.paste(_thumbnail(cell[0]), (left, top + _LINE))
                draw.text((left, top + _LINE + CELL + 1), _cut(cell[1], CELL), fill="#444444", font=_FONT)
    return canvas


def save(image: Image.Image, path: Path) -> None:
    """Write a WebP of at most 300 kB, in the best quality that fits."""
    for quality in range(90, 0, -10):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= MAXIMUM_BYTES:
            break
    path.write_bytes(buffer.getvalue())


def _thumbnail(path: Path) -> Image.Image:
    with Image.open(path) as image:
        shown = image.convert("RGB")
    if max(shown.size) <= CELL // 2:  # small images are enlarged without interpolation
        return shown.resize((CELL, CELL), Image.Resampling.NEAREST)
    shown.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return shown


def _cut(text: str, width: float) -> str:
    if _FONT.getlength(text) <= width:
        return text
    while text and _FONT.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
