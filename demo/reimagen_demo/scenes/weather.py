"""Times of day and weather, applied to a scene that was drawn in daylight, and to the drawings on it."""

from collections.abc import Callable
from functools import lru_cache
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from reimagen_demo.scenes.registry import Time, Weather

Color = tuple[int, int, int]

_LIGHT: dict[Time | Weather, tuple[Color, Color]] = {
    "night": ((48, 58, 118), (116, 128, 188)),
    "dawn": ((190, 178, 226), (255, 206, 200)),
    "sunset": ((164, 108, 164), (255, 180, 130)),
    "fog": ((232, 234, 236), (240, 240, 240)),
    "snow": ((214, 220, 230), (236, 240, 248)),
    "rain": ((128, 140, 158), (168, 176, 188)),
}
"""Colors that the scene is multiplied by, at its top and at its bottom."""
_HAZE: dict[Time | Weather, tuple[Color, float, float]] = {
    "night": ((20, 26, 70), 0.25, 0.05),
    "dawn": ((255, 214, 214), 0.15, 0.35),
    "sunset": ((255, 140, 70), 0.05, 0.2),
    "fog": ((222, 227, 231), 0.72, 0.5),
    "snow": ((232, 238, 246), 0.4, 0.25),
    "rain": ((140, 150, 165), 0.35, 0.15),
}
"""Color laid over the scene, and its opacity at the top and at the bottom."""
_ON_THINGS: dict[Time | Weather, tuple[Color, Color, float]] = {
    "night": ((194, 202, 238), (40, 50, 110), 0.06),
    "dawn": ((255, 236, 234), (255, 214, 214), 0.08),
    "sunset": ((255, 216, 190), (255, 140, 70), 0.06),
    "fog": ((255, 255, 255), (222, 227, 231), 0.24),
    "snow": ((244, 247, 255), (232, 238, 246), 0.06),
    "rain": ((218, 224, 234), (140, 150, 165), 0.06),
}
"""The same for a drawing on the scene: the color it is multiplied by, the color laid over it, and its opacity."""
_SPARE = 4
"""Factor by which drops and flakes are drawn larger and then scaled down, which smooths their outlines."""
_LARGEST = 1024


def light_scene(image: Image.Image, time: Time | None, weather: Weather | None) -> Image.Image:
    """Return the RGB scene at that time and in that weather, without precipitation or drifting fog."""
    for named in (time, weather):
        if named:
            top, bottom = _LIGHT[named]
            image = ImageChops.multiply(image, _ramp(top, bottom, image.height))
            color, at_top, at_bottom = _HAZE[named]
            image.paste(color, (0, 0), _veil(at_top, at_bottom, image.height))
    return image


def light_thing(sprite: Image.Image, time: Time | None, weather: Weather | None) -> Image.Image:
    """Return an RGBA drawing in the light of that time and weather."""
    for named in (time, weather):
        if named:
            times, color, share = _ON_THINGS[named]
            table = [
                round(value * factor / 255 * (1 - share) + over * share)
                for factor, over in zip(times, color, strict=True)
                for value in range(256)
            ]
            sprite = sprite.point(table + list(range(256)))
    return sprite


def fall(image: Image.Image, rng: Random, weather: Weather | None) -> None:
    """Draw what is in front of everything: flakes, streaks of rain or drifts of fog."""
    if weather:
        side = image.width
        mask = _PRECIPITATION[weather](rng, min(_SPARE * side, max(side, _LARGEST)))
        image.paste((255, 255, 255) if weather == "snow" else (226, 233, 240), (0, 0), _shrunk(mask, side))


def _flakes(rng: Random, side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for _ in range(60):
        x, y, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.006, 0.014) * side
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=rng.randint(190, 245))
    return mask


def _streaks(rng: Random, side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for _ in range(55):
        x, y, length = rng.uniform(-0.05, 1.1) * side, rng.uniform(-0.1, 1) * side, rng.uniform(0.05, 0.09) * side
        line = (x, y, x - 0.25 * length, y + length)
        draw.line(line, fill=rng.randint(110, 180), width=round(0.009 * side))
    return mask


def _drifts(rng: Random, side: int) -> Image.Image:
    mask = Image.new("L", (64, 64))
    draw = ImageDraw.Draw(mask)
    for _ in range(4):
        x, y = rng.uniform(0, 64), rng.uniform(28, 64)
        half, thick = rng.uniform(18, 34), rng.uniform(2, 5)
        draw.ellipse((x - half, y - thick, x + half, y + thick), fill=rng.randint(70, 120))
    return mask.filter(ImageFilter.GaussianBlur(3)).resize((side, side), Image.Resampling.BICUBIC)


_PRECIPITATION: dict[Weather, Callable[[Random, int], Image.Image]] = {
    "fog": _drifts,
    "snow": _flakes,
    "rain": _streaks,
}


def _shrunk(mask: Image.Image, side: int) -> Image.Image:
    return mask if mask.width == side else mask.resize((side, side), Image.Resampling.BOX)


@lru_cache(maxsize=32)
def _ramp(top: Color, bottom: Color, side: int) -> Image.Image:
    """Return a vertical blend of two colors."""
    ends = Image.new("RGB", (1, 2))
    ends.putpixel((0, 0), top)
    ends.putpixel((0, 1), bottom)
    return ends.resize((side, side), Image.Resampling.BILINEAR, box=(0, 0.5, 1, 1.5))


@lru_cache(maxsize=32)
def _veil(at_top: float, at_bottom: float, side: int) -> Image.Image:
    """Return a vertical blend of two opacities, from 0 to 1."""
    top, bottom = round(255 * at_top), round(255 * at_bottom)
    return _ramp((top, top, top), (bottom, bottom, bottom), side).getchannel(0)
