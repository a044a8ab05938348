from PIL import Image

from reimagen_demo.contact_sheet import CELL, GAP, Row, contact_sheet


def plain(color: str, side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side), color)


def columns_of(sheet: Image.Image, color: tuple[int, int, int]) -> set[int]:
    return {
        x // (CELL // 2)
        for x in range(sheet.width)
        for y in range(0, sheet.height, 8)
        if sheet.getpixel((x, y)) == color
    }


def test_neighbors_stand_left_of_the_picture() -> None:
    row = Row('"a lemon in the rain"', [(plain("red"), "a lemon"), (plain("lime"), "a lemon")], plain("blue"), "seed 1")
    sheet = contact_sheet([row])
    order = [min(columns_of(sheet, color)) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    assert order == sorted(order)
    assert len(set(order)) == 3


def test_pictures_form_a_column_however_many_neighbors_there_are() -> None:
    grounded = Row("grounded", [(plain("red"), ""), (plain("red"), "")], plain("blue"), "")
    alone = Row("alone", [], plain("aqua", 1024), "")
    sheet = contact_sheet([grounded, alone])
    assert columns_of(sheet, (0, 0, 255)) == columns_of(sheet, (0, 255, 255))


def test_all_cells_have_one_size() -> None:
    for side in (64, 1024):
        sheet = contact_sheet([Row("", [], plain("blue", side), "")])
        assert sum(pixel == (0, 0, 255) for pixel in sheet.get_flattened_data()) == CELL * CELL


def test_long_lines_stay_below_their_own_picture() -> None:
    row = Row("", [(plain("red"), "m" * 200)], plain("blue"), "")
    sheet = contact_sheet([row])
    gap_between = sheet.crop((GAP + CELL, 0, 2 * GAP + CELL, sheet.height))
    assert gap_between.getcolors() == [(gap_between.width * gap_between.height, (255, 255, 255))]
