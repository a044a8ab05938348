"""Other outdoor places, and a cave: each function draws a random instance of one scene as SVG."""

from itertools import pairwise
from random import Random

from reimagen_demo.scenes.shapes import (
    circle,
    clouds,
    ellipse,
    hills,
    hsl,
    line,
    near_edge,
    polygon,
    rect,
    round_tree,
    sky,
    stars,
)


def street(rng: Random) -> str:
    """Draw a row of gabled houses by day, a pavement and a road."""
    parts = [sky(hsl(rng, 203, 65, 74), hsl(rng, 200, 55, 90), 70), clouds(rng, 2, 6, 16, "#fff")]
    x = rng.uniform(-6, 0)
    while x < 100:
        width, top = rng.uniform(17, 23), rng.uniform(24, 34)
        wall = hsl(rng, rng.choice((8, 28, 45, 345)), 55, 68)
        parts.append(polygon([(x, top), (x + width / 2, top - 10), (x + width, top)], hsl(rng, 12, 40, 38)))
        parts.append(rect(x, top, width, 70 - top, wall))
        for y in (top + 4, top + 17):
            for dx in (0.18, 0.6):
                parts.append(rect(x + dx * width, y, 0.24 * width, 8, "#fff", 'rx="0.4"'))
                parts.append(rect(x + dx * width + 0.6, y + 0.6, 0.24 * width - 1.2, 6.8, hsl(rng, 205, 55, 70)))
        door = x + width * rng.choice((0.2, 0.58))
        parts.append(rect(door, 57, 0.24 * width, 13, hsl(rng, rng.uniform(0, 360), 45, 36), 'rx="0.6"'))
        x += width + rng.choice((0, 0, 1))
    parts.append(rect(0, 69, 100, 31, hsl(rng, 220, 6, 50)) + rect(0, 69, 100, 5, hsl(rng, 40, 12, 78)))
    offset = rng.uniform(0, 20)
    parts += [rect(offset + 24 * i - 20, 89, 12, 1.8, "#f5f1e0") for i in range(6)]
    if rng.random() < 0.7:
        parts.append(round_tree(rng, near_edge(rng), 72, rng.uniform(26, 34), hsl(rng, 115, 42, 44), "#6b4a33"))
    return "".join(parts)


def moon(rng: Random) -> str:
    """Draw a gray plain with craters, and the earth in a black sky."""
    parts = [rect(0, 0, 100, 100, hsl(rng, 235, 35, 7)), stars(rng, 60, 60)]
    x, y, radius = near_edge(rng), rng.uniform(12, 24), rng.uniform(7, 10)
    parts.append(
        circle(x, y, radius, "#3f86d9")
        + ellipse(x - 0.2 * radius, y - 0.2 * radius, 0.5 * radius, 0.35 * radius, "#5cb26a")
    )
    parts.append(ellipse(x + 0.35 * radius, y + 0.35 * radius, 0.35 * radius, 0.25 * radius, "#5cb26a"))
    parts.append(ellipse(x, y - 0.55 * radius, 0.5 * radius, 0.14 * radius, "#fff", 0.8))
    parts.append(hills(rng, rng.uniform(53, 57), 4, hsl(rng, 220, 5, 46)))
    parts.append(hills(rng, rng.uniform(62, 65), 2, hsl(rng, 220, 5, 64)))
    for _ in range(rng.randint(9, 13)):
        y = rng.uniform(68, 98)
        size = rng.uniform(2, 4.5) * (y - 50) / 30
        x, color = rng.uniform(0, 100), hsl(rng, 220, 5, 50)
        parts.append(ellipse(x, y + 0.1 * size, size, 0.36 * size, "#d3d6da") + ellipse(x, y, size, 0.32 * size, color))
    return "".join(parts)


def garden(rng: Random) -> str:
    """Draw flower beds in front of a white picket fence, and a path through the lawn."""
    parts = [sky(hsl(rng, 190, 60, 80), hsl(rng, 185, 50, 92), 60)]
    parts += [
        circle(x + rng.uniform(-2, 2), rng.uniform(36, 44), rng.uniform(9, 13), hsl(rng, 130, 40, 36))
        for x in range(-4, 108, 9)
    ]
    parts.append(rect(0, 42, 100, 18, hsl(rng, 130, 38, 32)))
    parts += [rect(0, y, 100, 2.2, "#fdfdfb") for y in (44, 54)]
    for x in range(1, 100, 6):
        parts.append(polygon([(x, 62), (x, 41), (x + 1.9, 38), (x + 3.8, 41), (x + 3.8, 62)], "#ffffff"))
    parts.append(rect(0, 60, 100, 40, hsl(rng, 95, 48, 56)))
    parts.append(polygon([(44, 60), (56, 60), (78, 100), (22, 100)], hsl(rng, 38, 45, 78)))
    for left, right in ((0, 38), (62, 100)):
        parts.append(ellipse((left + right) / 2, 66, 20, 4.2, hsl(rng, 25, 38, 34)))
        for _ in range(17):
            flower, y = rng.uniform(left + 2, right - 2), rng.uniform(58, 67)
            parts.append(line(flower, y, flower, y + 4, "#3d8b40", 0.7))
            color = rng.choice(("#ff5d8f", "#ffd23f", "#ff7847", "#b66dff", "#ffffff"))
            parts.append(circle(flower, y, 1.7, color) + circle(flower, y, 0.6, "#fff3b0"))
    return "".join(parts)


def harbor(rng: Random) -> str:
    """Draw sails on teal water behind the planks of a quay."""
    parts = [sky(hsl(rng, 215, 45, 70), hsl(rng, 35, 55, 88), 50), clouds(rng, 2, 8, 20, "#fff")]
    parts.append(rect(0, 44, 100, 34, hsl(rng, 178, 45, 40)))
    parts.append(hills(rng, 43, 1.5, hsl(rng, 160, 22, 48)) + rect(0, 46, 100, 32, hsl(rng, 178, 45, 40)))
    if rng.random() < 0.8:
        x = rng.choice((rng.uniform(6, 14), rng.uniform(86, 94)))
        parts += [
            rect(x - 3 + 0.25 * i, 22 + 5 * i, 6 - 0.5 * i + i, 5, "#d8403a" if i % 2 else "#fff") for i in range(4)
        ]
        parts.append(rect(x - 2.4, 17, 4.8, 5, "#ffe28a") + polygon([(x - 3.4, 17), (x, 13), (x + 3.4, 17)], "#b3312c"))
    for x in (rng.uniform(12, 24), rng.uniform(74, 88)):
        y, height, hull = rng.uniform(54, 62), rng.uniform(24, 32), hsl(rng, rng.choice((5, 215, 30)), 55, 42)
        parts.append(line(x, y, x, y - height, "#6b4a33", 0.8))
        parts.append(polygon([(x + 0.8, y - height), (x + 0.8, y - 3), (x + 11, y - 3)], "#fffdf4"))
        parts.append(polygon([(x - 0.8, y - 0.9 * height), (x - 0.8, y - 3), (x - 7, y - 3)], "#f3e6cf"))
        parts.append(polygon([(x - 10, y - 2), (x + 12, y - 2), (x + 8, y + 3.5), (x - 7, y + 3.5)], hull))
    parts += [
        line(x, y, x + 7, y, "#fff", 0.6, 0.5) for x, y in ((rng.uniform(0, 92), rng.uniform(50, 72)) for _ in range(9))
    ]
    parts.append(rect(0, 75, 100, 25, hsl(rng, 28, 36, 52)))
    parts += [line(0, y, 100, y, "#4f341f", 0.6, 0.6) for y in (75, 79.5, 85, 92)]
    parts += [line(x, 75, x + (x - 50) * 0.35, 100, "#4f341f", 0.4, 0.35) for x in range(5, 100, 15)]
    parts += [rect(x, 69, 4, 9, "#5b3d26", 'rx="1"') + rect(x - 0.4, 68, 4.8, 2, "#7b5636", 'rx="1"') for x in (4, 92)]
    return "".join(parts)


def cave(rng: Random) -> str:
    """Draw layers of brown rock around a faint light, with stalactites above."""
    parts = [rect(0, 0, 100, 100, hsl(rng, 22, 30, 13))]
    middle = rng.uniform(42, 58)
    for scale, lightness in ((1.0, 22), (0.75, 32), (0.5, 44), (0.28, 60)):
        parts.append(ellipse(middle, 56, 46 * scale, 36 * scale, hsl(rng, 30, 36, lightness, 3)))
    for near in (False, True):
        fill = hsl(rng, 20, 28, 12 if near else 20)
        x = -2.0
        while x < 100:
            width = rng.uniform(5, 11)
            length = rng.uniform(8, 20) + (0.5 if near else 0.3) * abs(x + width / 2 - 50)
            parts.append(polygon([(x, -1), (x + width, -1), (x + width * rng.uniform(0.4, 0.6), length)], fill))
            x += width * rng.uniform(0.7, 1)
    parts.append(hills(rng, rng.uniform(72, 75), 2, hsl(rng, 25, 26, 26)))
    for _ in range(rng.randint(4, 7)):
        x, height = near_edge(rng), rng.uniform(8, 20)
        parts.append(
            polygon([(x - 0.25 * height, 78), (x, 78 - height), (x + 0.25 * height, 78)], hsl(rng, 22, 26, 18))
        )
    parts.append(hills(rng, rng.uniform(77, 79), 1, hsl(rng, 25, 26, 32)))
    parts += [
        ellipse(rng.uniform(0, 100), rng.uniform(82, 98), rng.uniform(2, 5), 1, hsl(rng, 25, 22, 24)) for _ in range(7)
    ]
    return "".join(parts)


def farm(rng: Random) -> str:
    """Draw a red barn and a silo beside rows of crops."""
    parts = [sky(hsl(rng, 205, 55, 78), hsl(rng, 50, 70, 90), 60), clouds(rng, 2, 6, 18, "#fff")]
    parts.append(hills(rng, rng.uniform(48, 51), 3, hsl(rng, 70, 45, 62)))
    at = rng.choice((2, 56))
    red = hsl(rng, 4, 62, 42)
    parts.append(
        rect(at + 32, 24, 9, 40, hsl(rng, 210, 8, 76)) + ellipse(at + 36.5, 24, 4.5, 4.5, hsl(rng, 210, 10, 62))
    )
    parts.append(
        polygon([(at, 66), (at, 38), (at + 5, 28), (at + 15, 22), (at + 25, 28), (at + 30, 38), (at + 30, 66)], red)
    )
    roof = [(at - 1.5, 39), (at + 4, 27), (at + 15, 20), (at + 26, 27), (at + 31.5, 39)]
    parts += [line(*one, *other, "#f6f1e7", 1.8) for one, other in pairwise(roof)]
    parts.append(rect(at + 8, 48, 14, 18, "#fdf8ee") + rect(at + 9.2, 49.2, 11.6, 16.8, hsl(rng, 4, 55, 33)))
    parts += [line(at + 9, 66, at + 21, 49, "#fdf8ee", 1.2), line(at + 9, 49, at + 21, 66, "#fdf8ee", 1.2)]
    parts.append(rect(at + 12, 31, 6, 7, "#fdf8ee"))
    parts.append(rect(0, 65, 100, 35, hsl(rng, 48, 60, 58)))
    for i in range(-9, 10):
        parts.append(line(50 + 5 * i, 65, 50 + 16 * i, 102, hsl(rng, 40, 50, 44), 1.2, 0.6))
    parts += [line(0, y, 100, y, "#8a6238", 1.1) for y in (60, 64.5)]
    parts += [rect(x, 57, 1.6, 11, "#8a6238") for x in range(3, 100, 13)]
    return "".join(parts)
