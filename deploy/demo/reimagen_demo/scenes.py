"""The places a thing can be put: flat illustrations drawn from a seed, sharp at any size."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import resvg_py
from PIL import Image

UNIT = 100
"""A scene's drawing space is this many units square, whatever the size in pixels."""

Draw = Callable[[Random], str]


@dataclass(frozen=True)
class Scene:
    """A place, how prompts call it, and how it is drawn."""

    phrase: str
    """What a prompt says after the entity: "in the snow"."""
    paraphrases: tuple[str, ...]
    caption: str
    """Of the scene alone, for its pictures in the knowledge base."""
    ground: float | None
    """How far down things stand, as a fraction of the height; None where they float."""
    draw: Draw

    @property
    def phrases(self) -> tuple[str, ...]:
        return (self.phrase, *self.paraphrases)

    def svg(self, rng: Random, side: int) -> str:
        """One instance of the scene as an SVG document of that side in pixels."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" '
            f'viewBox="0 0 {UNIT} {UNIT}">{self.draw(rng)}</svg>'
        )

    def render(self, rng: Random, side: int) -> Image.Image:
        """One instance of the scene as an RGB picture of that side in pixels."""
        png = resvg_py.svg_to_bytes(svg_string=self.svg(rng, side), dpi=96)
        with Image.open(io.BytesIO(bytes(png))) as picture:
            return picture.convert("RGB")


# --- Drawing in the unit square -------------------------------------------------------------------------------


def _hsl(rng: Random, hue: float, saturation: float, lightness: float, spread: float = 6) -> str:
    hue = (hue + rng.uniform(-spread, spread)) % 360
    saturation = min(100, max(0, saturation + rng.uniform(-5, 5)))
    lightness = min(100, max(0, lightness + rng.uniform(-3, 3)))
    return f"hsl({hue:.0f},{saturation:.0f}%,{lightness:.0f}%)"


def _rect(x: float, y: float, width: float, height: float, fill: str, extra: str = "") -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}" {extra}/>'


def _circle(x: float, y: float, radius: float, fill: str, opacity: float = 1) -> str:
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}" fill="{fill}" opacity="{opacity:.2f}"/>'


def _ellipse(x: float, y: float, rx: float, ry: float, fill: str, opacity: float = 1) -> str:
    return f'<ellipse cx="{x:.2f}" cy="{y:.2f}" rx="{rx:.2f}" ry="{ry:.2f}" fill="{fill}" opacity="{opacity:.2f}"/>'


def _polygon(points: list[tuple[float, float]], fill: str, opacity: float = 1) -> str:
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polygon points="{path}" fill="{fill}" opacity="{opacity:.2f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float, opacity: float = 1) -> str:
    return (
        f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="{stroke}" '
        f'stroke-width="{width:.2f}" stroke-linecap="round" opacity="{opacity:.2f}"/>'
    )


def _sky(top: str, bottom: str, height: float = UNIT) -> str:
    return (
        f'<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="{top}"/>'
        f'<stop offset="1" stop-color="{bottom}"/></linearGradient></defs>' + _rect(0, 0, UNIT, height, "url(#sky)")
    )


def _hills(rng: Random, level: float, swing: float, fill: str) -> str:
    """A rolling outline around `level`, filled down to the bottom."""
    phase, waves = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.6)
    points = [(x, level + swing * math.sin(phase + waves * 2 * math.pi * x / UNIT)) for x in range(0, UNIT + 1, 4)]
    return _polygon([(0, UNIT), *points, (UNIT, UNIT)], fill)


def _cloud(rng: Random, x: float, y: float, size: float, fill: str, opacity: float = 0.9) -> str:
    parts = [(-0.55, 0.1, 0.35), (0, -0.1, 0.5), (0.55, 0.1, 0.38)]
    stretch = rng.uniform(0.9, 1.2)
    return (
        f'<g opacity="{opacity:.2f}">'
        + "".join(_circle(x + dx * size * stretch, y + dy * size, radius * size, fill) for dx, dy, radius in parts)
        + _rect(x - 0.85 * size, y + 0.05 * size, 1.7 * size, 0.43 * size, fill, f'rx="{0.2 * size:.2f}"')
        + "</g>"
    )


def _clouds(rng: Random, count: int, low: float, high: float, fill: str) -> str:
    return "".join(
        _cloud(rng, rng.uniform(5, 95), rng.uniform(low, high), rng.uniform(5, 9), fill) for _ in range(count)
    )


def _pine(x: float, base: float, height: float, fill: str, trunk: str = "#6b4a33") -> str:
    parts = [_rect(x - 0.04 * height, base - 0.15 * height, 0.08 * height, 0.15 * height, trunk)]
    for i in range(3):
        half, low = height * (0.28 - 0.06 * i), base - height * (0.12 + 0.25 * i)
        parts.append(_polygon([(x - half, low), (x, low - 0.4 * height), (x + half, low)], fill))
    return "".join(parts)


def _round_tree(rng: Random, x: float, base: float, height: float, fill: str, trunk: str) -> str:
    crown = "".join(
        _circle(x + dx * height, base - height * (0.68 + dy), 0.22 * height, fill)
        for dx, dy in ((-0.15, 0), (0.15, 0.02), (0, 0.16 + rng.uniform(0, 0.04)))
    )
    return _rect(x - 0.045 * height, base - 0.55 * height, 0.09 * height, 0.55 * height, trunk) + crown


def _side(rng: Random) -> float:
    """An x near either edge, out of the way of what stands in the middle."""
    return rng.uniform(2, 26) if rng.random() < 0.5 else rng.uniform(74, 98)


def _stars(rng: Random, count: int, bottom: float) -> str:
    return "".join(
        _circle(rng.uniform(0, 100), rng.uniform(0, bottom), rng.uniform(0.25, 0.8), "#fff", rng.uniform(0.5, 1))
        for _ in range(count)
    )


# --- The scenes -----------------------------------------------------------------------------------------------


def _snow(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 205, 45, 74), _hsl(rng, 205, 40, 90), 70)]
    parts.append(_hills(rng, rng.uniform(56, 62), 4, _hsl(rng, 205, 35, 84)))
    for _ in range(rng.randint(3, 6)):
        height = rng.uniform(16, 28)
        x, base = _side(rng), rng.uniform(64, 72)
        parts.append(_pine(x, base, height, _hsl(rng, 165, 28, 38)))
        parts.append(
            _polygon(
                [
                    (x - 0.1 * height, base - 0.82 * height),
                    (x, base - 1.02 * height),
                    (x + 0.1 * height, base - 0.82 * height),
                ],
                "#fff",
            )
        )
    parts.append(_hills(rng, rng.uniform(70, 74), 2, _hsl(rng, 205, 30, 97, 4)))
    parts += [_circle(rng.uniform(0, 100), rng.uniform(0, 95), rng.uniform(0.7, 1.4), "#fff", 0.95) for _ in range(40)]
    return "".join(parts)


def _desert(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 200, 65, 72), _hsl(rng, 42, 75, 84), 65)]
    parts.append(_circle(rng.uniform(12, 88), rng.uniform(10, 22), rng.uniform(6, 8), "#fff3c4"))
    parts.append(_hills(rng, rng.uniform(50, 56), 5, _hsl(rng, 32, 62, 68)))
    parts.append(_hills(rng, rng.uniform(60, 65), 4, _hsl(rng, 34, 70, 62)))
    for _ in range(rng.randint(1, 3)):
        x, base, height, fill = _side(rng), rng.uniform(66, 74), rng.uniform(12, 20), _hsl(rng, 140, 32, 40)
        arm = 0.22 * height
        parts.append(_line(x, base, x, base - height, fill, 3.2))
        parts.append(_line(x, base - 0.4 * height, x - arm, base - 0.5 * height, fill, 2.2))
        parts.append(_line(x - arm, base - 0.5 * height, x - arm, base - 0.75 * height, fill, 2.2))
        parts.append(_line(x, base - 0.5 * height, x + arm, base - 0.6 * height, fill, 2.2))
        parts.append(_line(x + arm, base - 0.6 * height, x + arm, base - 0.85 * height, fill, 2.2))
    parts.append(_hills(rng, rng.uniform(73, 77), 2.5, _hsl(rng, 38, 75, 70)))
    return "".join(parts)


def _beach(rng: Random) -> str:
    horizon = rng.uniform(42, 48)
    parts = [_sky(_hsl(rng, 200, 80, 68), _hsl(rng, 195, 75, 88), horizon + 1)]
    parts.append(_clouds(rng, rng.randint(1, 3), 8, 30, "#fff"))
    parts.append(_rect(0, horizon, 100, 30, _hsl(rng, 188, 65, 48)))
    for _ in range(8):
        x, y = rng.uniform(0, 90), rng.uniform(horizon + 3, 62)
        parts.append(_line(x, y, x + rng.uniform(6, 14), y, "#fff", 0.7, 0.6))
    shore = rng.uniform(64, 68)
    parts.append(_hills(rng, shore - 2.5, 1.5, "#eefcff"))
    parts.append(_hills(rng, shore, 1.5, _hsl(rng, 45, 70, 80)))
    if rng.random() < 0.7:
        x, lean = rng.choice((rng.uniform(4, 14), rng.uniform(86, 96))), rng.uniform(-6, 6)
        top, leaf = rng.uniform(24, 32), _hsl(rng, 135, 45, 40)
        parts.append(_line(x, 78, x + lean, top, _hsl(rng, 30, 40, 42), 2.8))
        for angle in range(-200, 40, 40):
            dx, dy = 13 * math.cos(math.radians(angle)), 8 * math.sin(math.radians(angle))
            parts.append(_line(x + lean, top, x + lean + dx, top + dy + 3, leaf, 2.6))
    parts += [_circle(rng.uniform(0, 100), rng.uniform(82, 98), rng.uniform(0.5, 1), "#fff4dd") for _ in range(8)]
    return "".join(parts)


def _forest(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 95, 35, 72), _hsl(rng, 100, 40, 82))]
    for layer, (lightness, base) in enumerate(((52, 62), (38, 67), (26, 73))):
        fill = _hsl(rng, 140, 38, lightness)
        for i in range(9 - 2 * layer):
            x = (i + rng.uniform(0.1, 0.9)) * 100 / (9 - 2 * layer) if layer < 2 else _side(rng)
            height = rng.uniform(40, 58) + 6 * layer
            parts.append(_pine(x, base, height, fill, "#4d3626"))
    parts.append(_hills(rng, rng.uniform(70, 73), 2, _hsl(rng, 105, 38, 34)))
    for _ in range(14):
        x, y = rng.uniform(0, 100), rng.uniform(76, 98)
        parts.append(_line(x, y, x + rng.uniform(-1, 1), y - 3, _hsl(rng, 100, 40, 46), 0.9))
    return "".join(parts)


def _city_night(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 238, 50, 14), _hsl(rng, 265, 42, 32), 80), _stars(rng, 25, 40)]
    parts.append(_circle(rng.uniform(10, 90), rng.uniform(8, 18), rng.uniform(4, 6), "#fdf3cf"))
    x = rng.uniform(-8, 0)
    while x < 100:
        width, top = rng.uniform(10, 17), rng.uniform(22, 52)
        parts.append(_rect(x, top, width, 80 - top, _hsl(rng, 235, 30, 21)))
        for row in range(int((74 - top) / 5)):
            for column in range(int(width / 4)):
                if rng.random() < 0.5:
                    parts.append(_rect(x + 1.4 + column * 4, top + 3 + row * 5, 1.9, 2.6, "#ffd86b"))
        x += width + rng.uniform(0, 2)
    parts.append(_rect(0, 74, 100, 26, _hsl(rng, 230, 14, 27)))
    parts.append(_rect(0, 74, 100, 3, _hsl(rng, 230, 12, 40)))
    offset = rng.uniform(0, 18)
    parts += [_rect(offset + 24 * i - 20, 91, 12, 1.6, "#e9e3c4") for i in range(6)]
    return "".join(parts)


def _under_water(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 190, 75, 58), _hsl(rng, 212, 75, 28))]
    for _ in range(4):
        x, width = rng.uniform(-10, 100), rng.uniform(6, 14)
        parts.append(_polygon([(x, 0), (x + width, 0), (x + width + 22, 85), (x - 4 + 12, 85)], "#fff", 0.09))
    parts.append(_hills(rng, rng.uniform(89, 92), 2.5, _hsl(rng, 42, 40, 56)))
    for _ in range(rng.randint(5, 8)):
        x, height, fill = _side(rng), rng.uniform(14, 34), _hsl(rng, 155, 45, 34, 15)
        bend = rng.uniform(2, 4)
        parts.append(
            f'<path d="M{x:.1f} 94 q{bend:.1f} {-height / 4:.1f} 0 {-height / 2:.1f} '
            f't0 {-height / 2:.1f}" stroke="{fill}" stroke-width="2.4" fill="none" stroke-linecap="round"/>'
        )
    for _ in range(rng.randint(12, 18)):
        x, y, radius = rng.uniform(2, 98), rng.uniform(4, 85), rng.uniform(0.8, 2.4)
        parts.append(
            _circle(x, y, radius, "#dff7ff", 0.45)
            + _circle(x - 0.3 * radius, y - 0.3 * radius, radius / 3, "#fff", 0.8)
        )
    return "".join(parts)


def _space(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 255, 55, 10), _hsl(rng, 280, 50, 18, 15))]
    for _ in range(3):
        hue = rng.choice((280, 320, 215))
        for scale in (1.0, 0.7, 0.4):
            parts.append(
                _ellipse(rng.uniform(10, 90), rng.uniform(10, 90), 30 * scale, 17 * scale, f"hsl({hue},70%,55%)", 0.09)
            )
    parts.append(_stars(rng, 75, 100))
    x, y, radius, hue = (
        _side(rng),
        rng.choice((rng.uniform(6, 22), rng.uniform(78, 94))),
        rng.uniform(6, 13),
        rng.uniform(0, 360),
    )
    parts.append(
        _circle(x, y, radius, _hsl(rng, hue, 55, 58))
        + _ellipse(x, y + 0.2 * radius, 0.95 * radius, 0.18 * radius, "#fff", 0.25)
    )
    parts.append(_circle(100 - x, rng.uniform(10, 90), rng.uniform(2, 4), _hsl(rng, hue + 150, 35, 65)))
    return "".join(parts)


def _meadow(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 205, 78, 70), _hsl(rng, 200, 70, 90), 65), _clouds(rng, rng.randint(2, 3), 8, 32, "#fff")]
    parts.append(_hills(rng, rng.uniform(54, 60), 5, _hsl(rng, 100, 45, 62)))
    parts.append(_hills(rng, rng.uniform(64, 68), 3, _hsl(rng, 104, 50, 50)))
    for _ in range(rng.randint(16, 26)):
        x, y = rng.uniform(0, 100), rng.uniform(70, 98)
        parts.append(
            _circle(x, y, 1.2, rng.choice(("#fff", "#ffe04d", "#ff8fb8", "#c79bff"))) + _circle(x, y, 0.45, "#f6b21b")
        )
    return "".join(parts)


def _mountains(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 212, 60, 62), _hsl(rng, 205, 55, 88), 75)]
    for lightness, base, count in ((66, 66, 3), (48, 70, 3)):
        for i in range(count):
            x, height = (i + rng.uniform(0.2, 0.8)) * 100 / count, rng.uniform(36, 56)
            half, top = height * rng.uniform(0.55, 0.75), base - height
            parts.append(_polygon([(x - half, base), (x, top), (x + half, base)], _hsl(rng, 218, 20, lightness)))
            cap = 0.28
            parts.append(
                _polygon(
                    [
                        (x - cap * half, top + cap * height),
                        (x, top),
                        (x + cap * half, top + cap * height),
                        (x + 0.1 * half, top + 0.2 * height),
                        (x - 0.08 * half, top + 0.33 * height),
                    ],
                    "#fff",
                )
            )
    parts.append(_rect(0, 68, 100, 32, _hsl(rng, 90, 22, 46)))
    parts.append(_hills(rng, rng.uniform(70, 73), 2, _hsl(rng, 88, 24, 52)))
    for _ in range(8):
        parts.append(
            _ellipse(
                rng.uniform(0, 100),
                rng.uniform(78, 98),
                rng.uniform(1.5, 4),
                rng.uniform(0.9, 1.8),
                _hsl(rng, 215, 8, 62),
            )
        )
    return "".join(parts)


def _sunset_sea(rng: Random) -> str:
    horizon = rng.uniform(52, 57)
    parts = [_sky(_hsl(rng, 275, 42, 42), _hsl(rng, 25, 95, 66), horizon + 1)]
    x, radius = rng.uniform(15, 85), rng.uniform(11, 15)
    parts.append(_circle(x, horizon - 1, radius * 1.5, "#ffd27a", 0.35) + _circle(x, horizon - 1, radius, "#ffe28a"))
    for _ in range(4):
        parts.append(
            _ellipse(rng.uniform(0, 100), rng.uniform(8, 36), rng.uniform(10, 20), rng.uniform(1, 2), "#ff9d84", 0.7)
        )
    parts.append(_rect(0, horizon, 100, 28, _hsl(rng, 255, 34, 38)))
    for i in range(7):
        y = horizon + 2 + 3 * i
        half = radius * rng.uniform(0.5, 1.1)
        parts.append(_line(x - half, y, x + half, y, "#ffc46b", 1.1, 0.85))
    parts.append(_hills(rng, rng.uniform(74, 77), 1.5, _hsl(rng, 14, 28, 30)))
    return "".join(parts)


def _living_room(rng: Random) -> str:
    hue = rng.choice((20, 40, 160, 200, 340))
    parts = [_rect(0, 0, 100, 75, _hsl(rng, hue, 35, 82))]
    parts += [_rect(x, 0, 4, 75, "#fff", 'opacity="0.16"') for x in range(rng.randint(0, 6), 100, 12)]
    x = rng.choice((rng.uniform(4, 16), rng.uniform(54, 66)))
    parts.append(
        _rect(x, 8, 30, 30, "#fff", 'rx="1"')
        + _rect(x + 2, 10, 12.3, 26, _hsl(rng, 200, 75, 82))
        + _rect(x + 15.7, 10, 12.3, 26, _hsl(rng, 200, 75, 82))
    )
    curtain = _hsl(rng, hue + 180, 45, 58)
    parts.append(_rect(x - 5, 5, 7, 40, curtain, 'rx="1.5"') + _rect(x + 28, 5, 7, 40, curtain, 'rx="1.5"'))
    other = (x + 50) % 92
    parts.append(_rect(other, 14, 14, 17, "#8a5a35") + _rect(other + 1.5, 15.5, 11, 14, _hsl(rng, hue + 90, 50, 70)))
    parts.append(_rect(0, 68, 100, 32, _hsl(rng, 28, 42, 52)) + _rect(0, 66, 100, 3, "#fff"))
    parts += [_line(0, y, 100, y, "#000", 0.3, 0.2) for y in (75, 83, 92)]
    parts.append(
        _ellipse(50, 88, rng.uniform(36, 44), 9, _hsl(rng, hue + 180, 45, 60))
        + _ellipse(50, 88, 32, 6.5, _hsl(rng, hue + 180, 40, 72))
    )
    return "".join(parts)


def _stage(rng: Random) -> str:
    parts = [_rect(0, 0, 100, 100, _hsl(rng, 350, 45, 16))]
    for x in (rng.uniform(15, 30), rng.uniform(70, 85), 50):
        parts.append(
            _polygon(
                [(x - 3, 0), (x + 3, 0), (50 + 26, 80), (50 - 26, 80)],
                rng.choice(("#fff3c0", "#ffe9f2", "#d8f0ff")),
                0.22,
            )
        )
    parts.append(_rect(0, 72, 100, 28, _hsl(rng, 25, 48, 38)) + _rect(0, 72, 100, 2.5, _hsl(rng, 30, 52, 52)))
    parts.append(_ellipse(50, 84, 38, 8, "#ffeebb", 0.5))
    width = rng.uniform(15, 19)
    red = _hsl(rng, 352, 72, 42)
    for side in (0, 100 - width):
        parts.append(_rect(side, 0, width, 78, red))
        parts += [_line(side + width * f, 0, side + width * f, 77, "#5c0a1c", 1, 0.5) for f in (0.2, 0.45, 0.7, 0.92)]
    parts += [_circle(x, 4, 9, red) for x in range(4, 104, 13)]
    parts.append(_rect(0, 0, 100, 5, red) + _line(0, 5, 100, 5, "#f2c14e", 1))
    return "".join(parts)


def _rain(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 212, 16, 46), _hsl(rng, 208, 16, 66), 76)]
    parts.append(
        "".join(
            _cloud(rng, rng.uniform(0, 100), rng.uniform(4, 18), rng.uniform(10, 15), _hsl(rng, 215, 12, 36), 0.95)
            for _ in range(5)
        )
    )
    parts.append(_hills(rng, rng.uniform(60, 64), 3, _hsl(rng, 170, 12, 42)))
    parts.append(_rect(0, 72, 100, 28, _hsl(rng, 210, 14, 40)))
    for _ in range(6):
        parts.append(
            _ellipse(
                rng.uniform(0, 100),
                rng.uniform(78, 97),
                rng.uniform(6, 13),
                rng.uniform(1.2, 2.4),
                _hsl(rng, 208, 25, 60),
            )
        )
    for _ in range(60):
        x, y = rng.uniform(-5, 105), rng.uniform(0, 95)
        parts.append(_line(x, y, x - 1.6, y + 6, "#d7ecfa", 0.8, 0.75))
    return "".join(parts)


def _autumn(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 42, 60, 84), _hsl(rng, 32, 70, 90), 76)]
    parts.append(_hills(rng, rng.uniform(54, 60), 4, _hsl(rng, 35, 55, 66)))
    for _ in range(rng.randint(4, 6)):
        parts.append(
            _round_tree(
                rng,
                _side(rng),
                rng.uniform(68, 74),
                rng.uniform(36, 54),
                rng.choice(("#d9531e", "#e8891c", "#c9302c", "#f0b429")),
                "#5d4030",
            )
        )
    parts.append(_hills(rng, rng.uniform(70, 73), 1.5, _hsl(rng, 30, 55, 48)))
    for _ in range(45):
        x, y = rng.uniform(0, 100), rng.uniform(74, 99) if rng.random() < 0.75 else rng.uniform(5, 70)
        parts.append(_ellipse(x, y, 1.5, 0.9, rng.choice(("#d9531e", "#f0b429", "#b5321f", "#f7d154"))))
    return "".join(parts)


def _dreamland(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 320, 75, 86), _hsl(rng, 285, 70, 90), 75)]
    for i, hue in enumerate((350, 40, 120, 200, 270)):
        radius = 46 - 4 * i
        parts.append(
            f'<circle cx="50" cy="64" r="{radius}" fill="none" stroke="{_hsl(rng, hue, 80, 76)}" stroke-width="4"/>'
        )
    parts.append(_clouds(rng, 3, 10, 40, "#fff"))
    parts.append(_hills(rng, rng.uniform(60, 64), 4, _hsl(rng, 165, 55, 76)))
    for _ in range(rng.randint(3, 5)):
        x, y, radius = _side(rng), rng.uniform(48, 58), rng.uniform(4, 6.5)
        parts.append(
            _line(x, y, x, 76, "#fff", 1.5)
            + _circle(x, y, radius, _hsl(rng, rng.uniform(0, 360), 75, 66))
            + _circle(x, y, 0.55 * radius, "#fff", 0.7)
        )
    parts.append(_hills(rng, rng.uniform(71, 74), 2, _hsl(rng, 330, 65, 80)))
    return "".join(parts)


def _jungle(rng: Random) -> str:
    parts = [_sky(_hsl(rng, 80, 55, 64), _hsl(rng, 120, 45, 44))]
    for lightness in (36, 29):
        for _ in range(7):
            parts.append(
                _ellipse(
                    rng.uniform(0, 100),
                    rng.uniform(5, 66),
                    rng.uniform(10, 18),
                    rng.uniform(8, 14),
                    _hsl(rng, 145, 50, lightness),
                    0.55,
                )
            )
    for _ in range(rng.randint(3, 5)):
        x, length = rng.uniform(4, 96), rng.uniform(22, 46)
        parts.append(
            f'<path d="M{x:.1f} 0 q{rng.uniform(-8, 8):.1f} {length / 2:.1f} 0 {length:.1f}" stroke="{_hsl(rng, 110, 45, 24)}" stroke-width="1.5" fill="none"/>'
        )
    parts.append(_hills(rng, rng.uniform(72, 75), 2, _hsl(rng, 95, 40, 26)))
    for side in (0, 100):
        for _ in range(7):
            angle, length = rng.uniform(-75, 50), rng.uniform(18, 32)
            dx = length * math.cos(math.radians(angle)) * (1 if side == 0 else -1)
            dy = length * math.sin(math.radians(angle))
            y = rng.uniform(20, 88)
            parts.append(
                _polygon(
                    [
                        (side, y - 4),
                        (side + dx * 0.5, y + dy * 0.5 - 5),
                        (side + dx, y + dy),
                        (side + dx * 0.5, y + dy * 0.5 + 3),
                        (side, y + 4),
                    ],
                    _hsl(rng, 135, 58, 34, 20),
                )
            )
    return "".join(parts)


SCENES = (
    Scene(
        "in the snow",
        ("on a snowy day", "in a winter landscape"),
        "an empty snowy landscape under a pale winter sky, with snow falling on pines",
        0.84,
        _snow,
    ),
    Scene(
        "in the desert",
        ("among sand dunes", "in a sandy desert"),
        "an empty desert of sand dunes under a hot sky",
        0.84,
        _desert,
    ),
    Scene(
        "on the beach",
        ("at the seaside", "on a sandy beach"),
        "an empty sandy beach beside a calm blue sea",
        0.85,
        _beach,
    ),
    Scene(
        "in a forest",
        ("in the woods", "among tall pines"),
        "an empty clearing in a dark green forest of tall pines",
        0.84,
        _forest,
    ),
    Scene(
        "in the city at night",
        ("in a city street at night", "downtown at night"),
        "an empty street in a city at night, with lit windows",
        0.86,
        _city_night,
    ),
    Scene(
        "under water",
        ("deep under the sea", "underwater"),
        "an empty stretch of deep blue water with bubbles and seaweed",
        None,
        _under_water,
    ),
    Scene(
        "in space",
        ("in outer space", "in the cosmos"),
        "an empty stretch of dark outer space, full of stars",
        None,
        _space,
    ),
    Scene(
        "on a green meadow",
        ("on a flowery lawn", "on the grass"),
        "an empty green meadow with small flowers under a blue sky",
        0.85,
        _meadow,
    ),
    Scene(
        "in the mountains",
        ("high in the mountains", "in front of snowy peaks"),
        "an empty valley in front of grey peaks",
        0.85,
        _mountains,
    ),
    Scene(
        "at sunset by the sea",
        ("at sunset", "in the evening by the sea"),
        "an empty shore by the sea at sunset, under a purple and orange sky",
        0.86,
        _sunset_sea,
    ),
    Scene(
        "in a living room",
        ("at home in the living room", "on a rug indoors"),
        "an empty living room with curtains and a round rug",
        0.87,
        _living_room,
    ),
    Scene(
        "on a stage",
        ("on a theater stage", "in the spotlight"),
        "an empty theater stage between red curtains, lit by spotlights",
        0.85,
        _stage,
    ),
    Scene(
        "in the rain",
        ("on a rainy day", "in pouring rain"),
        "an empty wet road under grey clouds in pouring rain",
        0.85,
        _rain,
    ),
    Scene(
        "in autumn",
        ("among autumn leaves", "in an autumn park"),
        "an empty park in autumn with orange trees and fallen leaves",
        0.85,
        _autumn,
    ),
    Scene(
        "in a pastel dreamland",
        ("in a whimsical dreamland", "in a fairy-tale land"),
        "an empty pastel dreamland with soft hills under a pink sky",
        0.85,
        _dreamland,
    ),
    Scene(
        "in the jungle",
        ("in a tropical jungle", "in the rainforest"),
        "an empty path through a lush tropical jungle with vines",
        0.86,
        _jungle,
    ),
)
