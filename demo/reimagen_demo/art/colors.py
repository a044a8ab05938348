"""Recoloring of drawings, for prompts such as "a blue fox": the shades stay, the hues change."""

from functools import cache
from typing import Literal

from PIL import Image

Color = Literal[
    "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "white", "black", "gray"
]

_SHADES: dict[Color, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((70, 0, 6), (214, 30, 38), (255, 172, 164)),
    "orange": ((92, 34, 0), (240, 126, 16), (255, 216, 160)),
    "yellow": ((104, 78, 0), (246, 206, 30), (255, 246, 178)),
    "green": ((0, 50, 14), (48, 160, 58), (190, 240, 176)),
    "turquoise": ((0, 54, 58), (26, 176, 172), (184, 246, 238)),
    "blue": ((4, 16, 84), (38, 96, 222), (176, 212, 255)),
    "purple": ((44, 4, 78), (136, 54, 196), (224, 190, 255)),
    "pink": ((112, 14, 62), (242, 108, 170), (255, 216, 232)),
    "brown": ((38, 18, 4), (126, 74, 34), (218, 182, 144)),
    "white": ((150, 152, 158), (226, 228, 232), (255, 255, 255)),
    "black": ((4, 4, 8), (34, 34, 40), (104, 106, 114)),
    "gray": ((40, 42, 46), (132, 134, 138), (224, 226, 230)),
}
"""The colors that replace black, middle gray and white."""


def recolored(sprite: Image.Image, color: Color) -> Image.Image:
    """Return an RGBA drawing in the shades of one color."""
    gray = sprite.convert("RGB").convert("L")
    image = Image.merge("RGB", [gray.point(table) for table in _tables(color)])
    image.putalpha(sprite.getchannel("A"))
    return image


@cache
def _tables(color: Color) -> list[list[int]]:
    """Return a table for each channel that maps a gray value to the channel's value."""
    dark, middle, light = _SHADES[color]
    return [
        [round(d + (m - d) * g / 127) if g < 128 else round(m + (b - m) * (g - 127) / 128) for g in range(256)]
        for d, m, b in zip(dark, middle, light, strict=True)
    ]
