"""Rooms: each function draws a random instance of one scene as SVG."""

from itertools import pairwise
from random import Random

from reimagen_demo.scenes.shapes import circle, ellipse, hsl, line, polygon, rect, sky


def kitchen(rng: Random) -> str:
    """Draw cupboards over a counter with a stove, on a checkered floor."""
    parts = [rect(0, 0, 100, 76, hsl(rng, 48, 55, 88))]
    parts += [line(0, y, 100, y, "#fff", 0.5, 0.8) for y in range(30, 50, 5)]
    parts += [line(x, 28, x, 50, "#fff", 0.5, 0.8) for x in range(2, 100, 6)]
    hue = rng.choice((150, 165, 180))
    door, wood = hsl(rng, hue, 32, 62), hsl(rng, 32, 45, 60)
    window = rng.choice((38, 8, 66))
    for x in range(2, 98, 12):
        if not window - 8 < x < window + 26:
            parts.append(rect(x, 3, 11, 22, door, 'rx="1"') + circle(x + 9, 20, 0.8, "#fff8dd"))
    parts.append(rect(window, 5, 24, 22, "#fff", 'rx="1"') + rect(window + 1.5, 6.5, 21, 19, hsl(rng, 200, 70, 82)))
    parts.append(line(window + 12, 6, window + 12, 26, "#fff", 1.2))
    parts.append(rect(0, 50, 100, 24, door) + rect(0, 48, 100, 3.4, wood))
    stove = rng.choice((6, 70))
    for x in range(1, 100, 14):
        parts.append(rect(x, 54, 12.5, 19, hsl(rng, hue, 30, 68), 'rx="1"') + circle(x + 6, 57, 0.8, "#fff8dd"))
    parts.append(rect(stove, 50, 24, 24, "#e9ecef", 'rx="1"') + rect(stove + 3, 59, 18, 11, "#4a5560", 'rx="1.5"'))
    parts += [circle(stove + 4.5 + 5 * i, 54.5, 1.3, "#7c8791") for i in range(4)]
    pot = hsl(rng, rng.choice((5, 215, 40)), 65, 52)
    parts.append(rect(stove + 4, 41.5, 11, 6.5, pot, 'rx="1.2"') + rect(stove + 2.5, 41, 14, 1.4, pot, 'rx="0.7"'))
    parts.append(rect(0, 74, 100, 26, "#f4ead8"))
    tile = hsl(rng, hue, 24, 74)
    for row, (top, bottom) in enumerate(((74, 79), (79, 86), (86, 95), (95, 106))):
        for column in range(-6, 7):
            if (row + column) % 2:
                near, far = bottom - 40, top - 40
                points = [(50 + (column + side) * 0.3 * y, y + 40) for side, y in ((0, far), (1, far))]
                points += [(50 + (column + side) * 0.3 * y, y + 40) for side, y in ((1, near), (0, near))]
                parts.append(polygon(points, tile))
    return "".join(parts)


def museum(rng: Random) -> str:
    """Draw a hall with framed pictures under lamps, and a rope in front of them."""
    wall = hsl(rng, 350, 28, 42)
    parts = [rect(0, 0, 100, 70, wall), rect(0, 0, 100, 8, "#f3efe6"), rect(0, 8, 100, 1.4, "#d8c690")]
    for x in (rng.uniform(3, 6), rng.uniform(37, 40), rng.uniform(70, 73)):
        width, top = rng.uniform(20, 25), rng.uniform(17, 21)
        height = rng.uniform(22, 30)
        parts.append(
            polygon([(x + width / 2, 8), (x - 3, top + height), (x + width + 3, top + height)], "#fff6d5", 0.2)
        )
        parts.append(rect(x, top, width, height, "#cfa63c", 'rx="0.6"'))
        x, top, width, height = x + 2, top + 2, width - 4, height - 4
        ground, hue = hsl(rng, rng.uniform(0, 360), 35, 82), rng.uniform(0, 360)
        parts.append(rect(x, top, width, height, ground))
        level = top + height * rng.uniform(0.5, 0.7)
        parts.append(rect(x, level, width, top + height - level, hsl(rng, hue, 45, 55)))
        parts.append(
            circle(x + width * rng.uniform(0.25, 0.75), level - 4, rng.uniform(2, 3.6), hsl(rng, hue + 120, 60, 60))
        )
    parts.append(rect(0, 66, 100, 4, "#f3efe6") + rect(0, 70, 100, 30, hsl(rng, 32, 38, 64)))
    for row, y in enumerate((70, 75, 82, 91)):
        parts.append(line(0, y, 100, y, "#6b4423", 0.4, 0.4))
        parts += [line(x, y, x, y + 5 + 2 * row, "#6b4423", 0.4, 0.3) for x in range(5 + 8 * (row % 2), 100, 16)]
    posts = [6, 35, 65, 94]
    for left, right in pairwise(posts):
        curve = f"M{left} 61 Q{(left + right) / 2} 72 {right} 61"
        parts.append(f'<path d="{curve}" stroke="#8e1b2e" stroke-width="1.6" fill="none"/>')
    parts += [
        rect(x - 0.7, 60, 1.4, 16, "#d9b24a") + circle(x, 60, 1.4, "#f0cf6b") + ellipse(x, 76, 3, 0.9, "#b8923a")
        for x in posts
    ]
    return "".join(parts)


def studio(rng: Random) -> str:
    """Draw a paper backdrop that runs onto the floor, between two softboxes."""
    hue = rng.choice((205, 215, 225))
    paper = hsl(rng, hue, 22, 70)
    parts = [rect(0, 0, 100, 100, hsl(rng, 230, 12, 20)), rect(0, 78, 100, 22, hsl(rng, 230, 10, 27))]
    parts.append(
        '<defs><radialGradient id="glow" cx="0.5" cy="0.45" r="0.65">'
        '<stop offset="0" stop-color="#fff" stop-opacity="0.75"/>'
        '<stop offset="1" stop-color="#fff" stop-opacity="0"/></radialGradient></defs>'
    )
    left, right = rng.uniform(15, 18), rng.uniform(82, 85)
    shape = [(left, 5), (right, 5), (right, 74), (right + 8, 100), (left - 8, 100), (left, 74)]
    parts.append(polygon(shape, paper) + polygon(shape, "url(#glow)"))
    parts.append(rect(left - 2, 3, right - left + 4, 3.2, "#c9ccd3", 'rx="1.6"'))
    for x, turn in ((rng.uniform(6, 9), 1), (rng.uniform(91, 94), -1)):
        y = rng.uniform(16, 26)
        parts.append(line(x, y + 8, x, 92, "#0e1016", 1.4))
        parts += [line(x, 84, x + dx, 93, "#0e1016", 1.2) for dx in (-5, 5)]
        parts.append(
            polygon(
                [(x - 8 * turn, y + 1), (x + 6 * turn, y - 9), (x + 9 * turn, y + 17), (x - 8 * turn, y + 9)], "#11131a"
            )
        )
        parts.append(
            polygon(
                [(x + 6 * turn, y - 9), (x + 9 * turn, y + 17), (x + 11 * turn, y + 16), (x + 8 * turn, y - 9)],
                "#fffbe8",
            )
        )
    return "".join(parts)


def white(rng: Random) -> str:
    """Draw plain white, slightly darker toward the floor."""
    shade = rng.uniform(95, 98)
    return sky("#ffffff", f"hsl({rng.uniform(0, 360):.0f},6%,{shade:.0f}%)")


def library(rng: Random) -> str:
    """Draw tall shelves of many-colored books and a green carpet."""
    wood = hsl(rng, 25, 48, 27)
    parts = [rect(0, 0, 100, 76, wood)]
    for x in range(2, 100, 33):
        for y in range(3, 66, 18):
            parts.append(rect(x, y, 30, 15.6, hsl(rng, 25, 45, 16, 2)))
            left = x + 0.6
            while left < x + 25.5:
                width, height = rng.uniform(2.6, 4.6), rng.uniform(10.5, 14.5)
                color = hsl(rng, rng.choice((5, 25, 40, 130, 200, 225)), 42, 46)
                if rng.random() < 0.9:
                    parts.append(rect(left, y + 15.6 - height, width, height, color, 'rx="0.4"'))
                    parts.append(rect(left, y + 18.4 - height, width, 1.1, "#f4e3b0", 'opacity="0.7"'))
                left += width + 0.3
        parts.append(rect(x - 2, 0, 2.4, 76, hsl(rng, 25, 48, 32, 2)))
    if rng.random() < 0.7:
        x = rng.choice((8, 76))
        parts += [line(x + dx, 76, x + 6 + dx, 4, "#b98a4e", 1.2) for dx in (0, 9)]
        parts += [
            line(x + 6 * f, 76 - 72 * f, x + 9 + 6 * f, 76 - 72 * f, "#b98a4e", 1)
            for f in (0.1, 0.24, 0.38, 0.52, 0.66, 0.8)
        ]
    parts.append(rect(0, 74, 100, 26, hsl(rng, 28, 45, 38)))
    parts.append(ellipse(50, 90, 46, 10, hsl(rng, 150, 38, 32)) + ellipse(50, 90, 41, 8, hsl(rng, 150, 32, 40)))
    return "".join(parts)


def classroom(rng: Random) -> str:
    """Draw a green chalkboard on a cream wall, with desks in front of it."""
    parts = [rect(0, 0, 100, 74, hsl(rng, 55, 48, 84))]
    parts.append(rect(16, 10, 68, 38, hsl(rng, 30, 50, 52), 'rx="1"') + rect(18, 12, 64, 34, hsl(rng, 155, 38, 27)))
    parts.append(rect(18, 45.4, 64, 1.8, "#d8b27a"))
    for row in range(rng.randint(2, 4)):
        x, y, width = rng.uniform(21, 50), 18 + 7 * row, rng.uniform(10, 26)
        wave = " ".join(f"q{width / 16:.1f} {rng.choice((-1.6, 1.6)):.1f} {width / 8:.1f} 0" for _ in range(8))
        parts.append(
            f'<path d="M{x:.1f} {y:.1f} {wave}" stroke="#eaf6ee" stroke-width="0.8" fill="none" opacity="0.85"/>'
        )
    x = rng.choice((4, 88))
    parts.append(rect(x, 14, 9, 12, hsl(rng, 205, 55, 68)) + circle(x + 4.5, 19, 3, hsl(rng, 110, 45, 55)))
    parts.append(circle(92 - x, 14, 4.4, "#8a6b4a") + circle(92 - x, 14, 3.6, "#fff"))
    parts.append(line(92 - x, 14, 92 - x, 11.6, "#333", 0.6) + line(92 - x, 14, 93.6 - x, 14.8, "#333", 0.6))
    parts.append(rect(0, 72, 100, 28, hsl(rng, 35, 52, 62)))
    parts += [line(0, y, 100, y, "#8a5a2b", 0.4, 0.4) for y in (77, 84, 92)]
    for x in (rng.uniform(1, 4), rng.uniform(76, 79)):
        parts.append(rect(x, 60, 20, 3, hsl(rng, 28, 60, 60), 'rx="0.8"'))
        parts += [line(x + dx, 63, x + dx, 78, "#5b6670", 1.2) for dx in (2.5, 17.5)]
    return "".join(parts)
