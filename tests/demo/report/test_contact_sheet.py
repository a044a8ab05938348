import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from reimagen_demo.report.contact_sheet import CELL, GAP, LINE, Row, contact_sheet, grid, webp


def plain(color: str, side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side), color)


def columns_of(sheet: Image.Image, color: tuple[int, int, int]) -> set[int]:
    return {
        x // (CELL // 2)
        for x in range(sheet.width)
        for y in range(0, sheet.height, 8)
        if sheet.getpixel((x, y)) == color
    }


def test_neighbors_are_left_of_the_image() -> None:
    neighbors = [(plain("red"), "a lemon"), (plain("lime"), "a lemon")]
    sheet = contact_sheet(
        [Row('"a lemon in the rain"', neighbors, [(plain("blue"), "with"), (plain("aqua"), "without")])]
    )
    colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255))
    order = [min(columns_of(sheet, color)) for color in colors]
    assert order == sorted(order)
    assert len(set(order)) == 4


def test_images_form_a_column_for_any_number_of_neighbors() -> None:
    grounded = Row("grounded", [(plain("red"), ""), (plain("red"), "")], [(plain("blue"), "")])
    alone = Row("alone", [], [(plain("aqua", 1024), "")])
    sheet = contact_sheet([grounded, alone])
    assert columns_of(sheet, (0, 0, 255)) == columns_of(sheet, (0, 255, 255))


def test_all_cells_have_one_size() -> None:
    for side in (64, 1024):
        sheet = contact_sheet([Row("", [], [(plain("blue", side), "")])])
        assert sum(pixel == (0, 0, 255) for pixel in sheet.get_flattened_data()) == CELL * CELL


def test_long_lines_wrap_below_their_image() -> None:
    row = Row("", [(plain("red"), "m" * 200)], [(plain("blue"), "")])
    sheet = contact_sheet([row])
    gap_between = sheet.crop((GAP + CELL, 0, 2 * GAP + CELL, sheet.height))
    assert gap_between.getcolors() == [(gap_between.width * gap_between.height, (255, 255, 255))]


def test_a_sheet_for_documentation_has_the_best_quality_that_fits() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    best = webp(noise, 1_000_000)
    fitting = webp(noise, len(best) - 1)
    assert len(best) > len(fitting) > len(webp(noise, len(fitting) - 1))
    with Image.open(io.BytesIO(fitting)) as image:
        assert (image.format, image.size) == ("WEBP", noise.size)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        webp(noise, 10)


def test_a_grid_has_the_images_of_each_cell_side_by_side() -> None:
    colors = [("red", "blue"), ("green", "white"), ("black", "yellow")]
    cells = [([Image.new("RGB", (8, 8), color) for color in pair], "x" * 100) for pair in colors]
    sheet = grid(cells, columns=2, side=40)
    assert sheet.size == (2 * (80 + GAP) + GAP, 2 * (40 + LINE + GAP) + GAP)
    for number, pair in enumerate(colors):
        left, top = GAP + number % 2 * (80 + GAP), GAP + number // 2 * (40 + LINE + GAP)
        for index, color in enumerate(pair):
            assert sheet.getpixel((left + 40 * index + 20, top + 20)) == ImageColor.getrgb(color)
