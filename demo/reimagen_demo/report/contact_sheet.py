"""A sheet of images next to the neighbors that they were grounded on."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL = 256
"""Side in pixels of every image on the sheet."""
GAP = 16
LINE = 20

Cell = tuple[Image.Image, str]
"""An image, and the lines of text below it."""


@dataclass(frozen=True)
class Row:
    """One prompt, its neighbors and the images drawn from it."""

    title: str
    neighbors: Sequence[Cell]
    drawn: Sequence[Cell]


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """Return a sheet with all rows below each other: the title, then the neighbors, then the drawn images."""
    title, small = ImageFont.load_default(18), ImageFont.load_default(13)
    first_drawn = max(len(row.neighbors) for row in rows)
    columns = first_drawn + max(len(row.drawn) for row in rows)
    height = 2 * GAP + LINE + CELL + 2 * LINE
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + len(rows) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = GAP + number * height
        draw.text((GAP, top), row.title, fill="black", font=title)
        # Drawn images are in the same columns in all rows, whatever the number of neighbors.
        cells = [*enumerate(row.neighbors), *enumerate(row.drawn, start=first_drawn)]
        for column, (image, text) in cells:
            corner = (GAP + column * (CELL + GAP), top + LINE + GAP // 2)
            sheet.paste(image.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS), corner)
            lines = [_cut(line, small, CELL) for line in text.splitlines()]
            draw.multiline_text((corner[0], corner[1] + CELL + 4), "\n".join(lines), fill="#444444", font=small)
    return sheet


def grid(cells: Sequence[tuple[Sequence[Image.Image], str]], columns: int, side: int) -> Image.Image:
    """Return a sheet of cells, each a row of images of `side` pixels without gaps, above one line of text.

    Args:
        cells: the images and the text of each cell; all cells have equally many images.
        columns: number of cells in a row.
        side: side of an image in pixels.
    """
    font = ImageFont.load_default(13)
    width, height = side * len(cells[0][0]) + GAP, side + LINE + GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (GAP + columns * width, GAP + rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (images, text) in enumerate(cells):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        for index, image in enumerate(images):
            small = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + index * side, top))
        draw.text((left, top + side + 4), _cut(text, font, width - GAP), fill="#444444", font=font)
    return sheet


def webp(sheet: Image.Image, maximum_bytes: int) -> bytes:
    """Return the sheet as a WebP file for the documentation, in the best quality that fits.

    Raises:
        ValueError: the sheet is too large even in the lowest quality.
    """
    for quality in range(90, 0, -10):
        buffer = io.BytesIO()
        sheet.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= maximum_bytes:
            return buffer.getvalue()
    raise ValueError(f"a sheet of {sheet.width} by {sheet.height} pixels takes more than {maximum_bytes:,} bytes")


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return the line, or as much of its start as fits into `width` pixels."""
    if font.getlength(line) <= width:
        return line
    cut = line
    while font.getlength(f"{cut}...") > width:
        cut = cut[:-1]
    return f"{cut}..."
