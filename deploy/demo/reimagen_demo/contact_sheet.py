"""A sheet that shows pictures beside what they were grounded on."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL = 256
"""Side in pixels of every picture on the sheet."""
GAP = 16
LINE = 20


@dataclass(frozen=True)
class Row:
    """One prompt, its neighbors and its picture."""

    title: str
    neighbors: Sequence[tuple[Image.Image, str]]
    """Each with the lines that stand below it."""
    picture: Image.Image
    caption: str


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """All rows below each other: the title, then the neighbors, then the picture."""
    title, small = ImageFont.load_default(18), ImageFont.load_default(13)
    columns = 1 + max(len(row.neighbors) for row in rows)
    height = 2 * GAP + LINE + CELL + 2 * LINE
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + len(rows) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = GAP + number * height
        draw.text((GAP, top), row.title, fill="black", font=title)
        cells = [*row.neighbors, (row.picture, row.caption)]
        # Pictures form a column, however few neighbors there are.
        for column, (picture, text) in zip([*range(len(row.neighbors)), columns - 1], cells, strict=True):
            place = (GAP + column * (CELL + GAP), top + LINE + GAP // 2)
            sheet.paste(picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS), place)
            lines = [_cut(line, small) for line in text.splitlines()]
            draw.multiline_text((place[0], place[1] + CELL + 4), "\n".join(lines), fill="#444444", font=small)
    return sheet


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The line, or as much of its start as fits below a picture."""
    if font.getlength(line) <= CELL:
        return line
    kept = line
    while font.getlength(f"{kept}...") > CELL:
        kept = kept[:-1]
    return f"{kept}..."
