"""SVG shapes in a drawing space of 100 by 100 units."""

import math
from collections.abc import Sequence
from random import Random

UNIT = 100
"""Side of a drawing in units, whatever its size in pixels."""


def hsl(rng: Random, hue: float, saturation: float, lightness: float, spread: float = 6) -> str:
    """Return a random color near the given one: hue in degrees, ± `spread`; the others in percent."""
    hue = (hue + rng.uniform(-spread, spread)) % 360
    saturation = min(100, max(0, saturation + rng.uniform(-5, 5)))
    lightness = min(100, max(0, lightness + rng.uniform(-3, 3)))
    return f"hsl({hue:.0f},{saturation:.0f}%,{lightness:.0f}%)"


def rect(x: float, y: float, width: float, height: float, fill: str, extra: str = "") -> str:
    """Return a rectangle, given its upper left corner."""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}" {extra}/>'


def circle(x: float, y: float, radius: float, fill: str, opacity: float = 1) -> str:
    """Return a filled circle."""
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}" fill="{fill}" opacity="{opacity:.2f}"/>'


def ellipse(x: float, y: float, rx: float, ry: float, fill: str, opacity: float = 1) -> str:
    """Return a filled ellipse."""
    return f'<ellipse cx="{x:.2f}" cy="{y:.2f}" rx="{rx:.2f}" ry="{ry:.2f}" fill="{fill}" opacity="{opacity:.2f}"/>'


def polygon(points: Sequence[tuple[float, float]], fill: str, opacity: float = 1) -> str:
    """Return a filled polygon."""
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polygon points="{path}" fill="{fill}" opacity="{opacity:.2f}"/>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float, opacity: float = 1) -> str:
    """Return a line with round ends."""
    return (
        f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="{stroke}" '
        f'stroke-width="{width:.2f}" stroke-linecap="round" opacity="{opacity:.2f}"/>'
    )


def sky(top: str, bottom: str, height: float = UNIT) -> str:
    """Return a vertical blend over the drawing, down to `height`."""
    return (
        f'<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="{top}"/>'
        f'<stop offset="1" stop-color="{bottom}"/></linearGradient></defs>' + rect(0, 0, UNIT, height, "url(#sky)")
    )


def hills(rng: Random, level: float, swing: float, fill: str) -> str:
    """Return a rolling outline around `level`, filled down to the bottom."""
    phase, waves = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.6)
    points = [(x, level + swing * math.sin(phase + waves * 2 * math.pi * x / UNIT)) for x in range(0, UNIT + 1, 4)]
    return polygon([(0, UNIT), *points, (UNIT, UNIT)], fill)


def cloud(rng: Random, x: float, y: float, size: float, fill: str, opacity: float = 0.9) -> str:
    """Return a cloud of three puffs on a flat base."""
    parts = [(-0.55, 0.1, 0.35), (0, -0.1, 0.5), (0.55, 0.1, 0.38)]
    stretch = rng.uniform(0.9, 1.2)
    return (
        f'<g opacity="{opacity:.2f}">'
        + "".join(circle(x + dx * size * stretch, y + dy * size, radius * size, fill) for dx, dy, radius in parts)
        + rect(x - 0.85 * size, y + 0.05 * size, 1.7 * size, 0.43 * size, fill, f'rx="{0.2 * size:.2f}"')
        + "</g>"
    )


def clouds(rng: Random, count: int, low: float, high: float, fill: str) -> str:
    """Return clouds with their centers between the heights `low` and `high`."""
    return "".join(
        cloud(rng, rng.uniform(5, 95), rng.uniform(low, high), rng.uniform(5, 9), fill) for _ in range(count)
    )


def pine(x: float, base: float, height: float, fill: str, trunk: str = "#6b4a33") -> str:
    """Return a pine of three tiers that stands at the height `base`."""
    parts = [rect(x - 0.04 * height, base - 0.15 * height, 0.08 * height, 0.15 * height, trunk)]
    for i in range(3):
        half, low = height * (0.28 - 0.06 * i), base - height * (0.12 + 0.25 * i)
        parts.append(polygon([(x - half, low), (x, low - 0.4 * height), (x + half, low)], fill))
    return "".join(parts)


def round_tree(rng: Random, x: float, base: float, height: float, fill: str, trunk: str) -> str:
    """Return a leafy tree that stands at the height `base`."""
    crown = "".join(
        circle(x + dx * height, base - height * (0.68 + dy), 0.22 * height, fill)
        for dx, dy in ((-0.15, 0), (0.15, 0.02), (0, 0.16 + rng.uniform(0, 0.04)))
    )
    return rect(x - 0.045 * height, base - 0.55 * height, 0.09 * height, 0.55 * height, trunk) + crown


def near_edge(rng: Random) -> float:
    """Return an x near either edge, away from the objects in the middle."""
    return rng.uniform(2, 26) if rng.random() < 0.5 else rng.uniform(74, 98)


def stars(rng: Random, count: int, bottom: float) -> str:
    """Return stars down to the height `bottom`."""
    return "".join(
        circle(rng.uniform(0, 100), rng.uniform(0, bottom), rng.uniform(0.25, 0.8), "#fff", rng.uniform(0.5, 1))
        for _ in range(count)
    )
