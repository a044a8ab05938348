"""Cities, rooms, water, space and dreams: each function draws a random instance of one scene as SVG."""

from random import Random

from reimagen_demo.scenes.shapes import circle, clouds, ellipse, hills, hsl, line, near_edge, polygon, rect, sky, stars


def city_night(rng: Random) -> str:
    """Draw lit windows along an empty street."""
    parts = [sky(hsl(rng, 238, 50, 14), hsl(rng, 265, 42, 32), 80), stars(rng, 25, 40)]
    parts.append(circle(rng.uniform(10, 90), rng.uniform(8, 18), rng.uniform(4, 6), "#fdf3cf"))
    x = rng.uniform(-8, 0)
    while x < 100:
        width, top = rng.uniform(10, 17), rng.uniform(22, 52)
        parts.append(rect(x, top, width, 80 - top, hsl(rng, 235, 30, 21)))
        for row in range(int((74 - top) / 5)):
            parts += [
                rect(x + 1.4 + column * 4, top + 3 + row * 5, 1.9, 2.6, "#ffd86b")
                for column in range(int(width / 4))
                if rng.random() < 0.5
            ]
        x += width + rng.uniform(0, 2)
    parts.append(rect(0, 74, 100, 26, hsl(rng, 230, 14, 27)))
    parts.append(rect(0, 74, 100, 3, hsl(rng, 230, 12, 40)))
    offset = rng.uniform(0, 18)
    parts += [rect(offset + 24 * i - 20, 91, 12, 1.6, "#e9e3c4") for i in range(6)]
    return "".join(parts)


def under_water(rng: Random) -> str:
    """Draw blue depths with light beams, seaweed and bubbles."""
    parts = [sky(hsl(rng, 190, 75, 58), hsl(rng, 212, 75, 28))]
    for _ in range(4):
        x, width = rng.uniform(-10, 100), rng.uniform(6, 14)
        parts.append(polygon([(x, 0), (x + width, 0), (x + width + 22, 85), (x - 4 + 12, 85)], "#fff", 0.09))
    parts.append(hills(rng, rng.uniform(89, 92), 2.5, hsl(rng, 42, 40, 56)))
    for _ in range(rng.randint(5, 8)):
        x, height, fill = near_edge(rng), rng.uniform(14, 34), hsl(rng, 155, 45, 34, 15)
        bend = rng.uniform(2, 4)
        parts.append(
            f'<path d="M{x:.1f} 94 q{bend:.1f} {-height / 4:.1f} 0 {-height / 2:.1f} '
            f't0 {-height / 2:.1f}" stroke="{fill}" stroke-width="2.4" fill="none" stroke-linecap="round"/>'
        )
    for _ in range(rng.randint(12, 18)):
        x, y, radius = rng.uniform(2, 98), rng.uniform(4, 85), rng.uniform(0.8, 2.4)
        parts.append(
            circle(x, y, radius, "#dff7ff", 0.45) + circle(x - 0.3 * radius, y - 0.3 * radius, radius / 3, "#fff", 0.8)
        )
    return "".join(parts)


def space(rng: Random) -> str:
    """Draw stars, nebulae and distant planets."""
    parts = [sky(hsl(rng, 255, 55, 10), hsl(rng, 280, 50, 18, 15))]
    for _ in range(3):
        hue = rng.choice((280, 320, 215))
        parts += [
            ellipse(rng.uniform(10, 90), rng.uniform(10, 90), 30 * scale, 17 * scale, f"hsl({hue},70%,55%)", 0.09)
            for scale in (1.0, 0.7, 0.4)
        ]
    parts.append(stars(rng, 75, 100))
    x, y = near_edge(rng), rng.choice((rng.uniform(6, 22), rng.uniform(78, 94)))
    radius, planet_hue = rng.uniform(6, 13), rng.uniform(0, 360)
    parts.append(
        circle(x, y, radius, hsl(rng, planet_hue, 55, 58))
        + ellipse(x, y + 0.2 * radius, 0.95 * radius, 0.18 * radius, "#fff", 0.25)
    )
    parts.append(circle(100 - x, rng.uniform(10, 90), rng.uniform(2, 4), hsl(rng, planet_hue + 150, 35, 65)))
    return "".join(parts)


def living_room(rng: Random) -> str:
    """Draw a papered wall with a window, and a round rug."""
    hue = rng.choice((20, 40, 160, 200, 340))
    parts = [rect(0, 0, 100, 75, hsl(rng, hue, 35, 82))]
    parts += [rect(x, 0, 4, 75, "#fff", 'opacity="0.16"') for x in range(rng.randint(0, 6), 100, 12)]
    x = rng.choice((rng.uniform(4, 16), rng.uniform(54, 66)))
    parts.append(
        rect(x, 8, 30, 30, "#fff", 'rx="1"')
        + rect(x + 2, 10, 12.3, 26, hsl(rng, 200, 75, 82))
        + rect(x + 15.7, 10, 12.3, 26, hsl(rng, 200, 75, 82))
    )
    curtain = hsl(rng, hue + 180, 45, 58)
    parts.append(rect(x - 5, 5, 7, 40, curtain, 'rx="1.5"') + rect(x + 28, 5, 7, 40, curtain, 'rx="1.5"'))
    other = (x + 50) % 92
    parts.append(rect(other, 14, 14, 17, "#8a5a35") + rect(other + 1.5, 15.5, 11, 14, hsl(rng, hue + 90, 50, 70)))
    parts.append(rect(0, 68, 100, 32, hsl(rng, 28, 42, 52)) + rect(0, 66, 100, 3, "#fff"))
    parts += [line(0, y, 100, y, "#000", 0.3, 0.2) for y in (75, 83, 92)]
    parts.append(
        ellipse(50, 88, rng.uniform(36, 44), 9, hsl(rng, hue + 180, 45, 60))
        + ellipse(50, 88, 32, 6.5, hsl(rng, hue + 180, 40, 72))
    )
    return "".join(parts)


def stage(rng: Random) -> str:
    """Draw boards between red curtains, under spotlights."""
    parts = [rect(0, 0, 100, 100, hsl(rng, 350, 45, 16))]
    parts += [
        polygon(
            [(x - 3, 0), (x + 3, 0), (50 + 26, 80), (50 - 26, 80)],
            rng.choice(("#fff3c0", "#ffe9f2", "#d8f0ff")),
            0.22,
        )
        for x in (rng.uniform(15, 30), rng.uniform(70, 85), 50)
    ]
    parts.append(rect(0, 72, 100, 28, hsl(rng, 25, 48, 38)) + rect(0, 72, 100, 2.5, hsl(rng, 30, 52, 52)))
    parts.append(ellipse(50, 84, 38, 8, "#ffeebb", 0.5))
    width = rng.uniform(15, 19)
    red = hsl(rng, 352, 72, 42)
    for side in (0, 100 - width):
        parts.append(rect(side, 0, width, 78, red))
        parts += [line(side + width * f, 0, side + width * f, 77, "#5c0a1c", 1, 0.5) for f in (0.2, 0.45, 0.7, 0.92)]
    parts += [circle(x, 4, 9, red) for x in range(4, 104, 13)]
    parts.append(rect(0, 0, 100, 5, red) + line(0, 5, 100, 5, "#f2c14e", 1))
    return "".join(parts)


def dreamland(rng: Random) -> str:
    """Draw pastel hills under an arch of colors."""
    parts = [sky(hsl(rng, 320, 75, 86), hsl(rng, 285, 70, 90), 75)]
    for band, hue in enumerate((350, 40, 120, 200, 270)):
        parts.append(
            f'<circle cx="50" cy="64" r="{46 - 4 * band}" fill="none" '
            f'stroke="{hsl(rng, hue, 80, 76)}" stroke-width="4"/>'
        )
    parts.append(clouds(rng, 3, 10, 40, "#fff"))
    parts.append(hills(rng, rng.uniform(60, 64), 4, hsl(rng, 165, 55, 76)))
    for _ in range(rng.randint(3, 5)):
        x, y, radius = near_edge(rng), rng.uniform(48, 58), rng.uniform(4, 6.5)
        parts.append(
            line(x, y, x, 76, "#fff", 1.5)
            + circle(x, y, radius, hsl(rng, rng.uniform(0, 360), 75, 66))
            + circle(x, y, 0.55 * radius, "#fff", 0.7)
        )
    parts.append(hills(rng, rng.uniform(71, 74), 2, hsl(rng, 330, 65, 80)))
    return "".join(parts)
