"""Open landscapes: each function draws a random instance of one scene as SVG."""

import math
from random import Random

from reimagen_demo.scenes.shapes import (
    circle,
    cloud,
    clouds,
    ellipse,
    hills,
    hsl,
    line,
    near_edge,
    pine,
    polygon,
    rect,
    round_tree,
    sky,
)


def snow(rng: Random) -> str:
    """Draw pale hills and snow-capped pines in falling snow."""
    parts = [sky(hsl(rng, 205, 45, 74), hsl(rng, 205, 40, 90), 70)]
    parts.append(hills(rng, rng.uniform(56, 62), 4, hsl(rng, 205, 35, 84)))
    for _ in range(rng.randint(3, 6)):
        height = rng.uniform(16, 28)
        x, base = near_edge(rng), rng.uniform(64, 72)
        parts.append(pine(x, base, height, hsl(rng, 165, 28, 38)))
        parts.append(
            polygon(
                [
                    (x - 0.1 * height, base - 0.82 * height),
                    (x, base - 1.02 * height),
                    (x + 0.1 * height, base - 0.82 * height),
                ],
                "#fff",
            )
        )
    parts.append(hills(rng, rng.uniform(70, 74), 2, hsl(rng, 205, 30, 97, 4)))
    parts += [circle(rng.uniform(0, 100), rng.uniform(0, 95), rng.uniform(0.7, 1.4), "#fff", 0.95) for _ in range(40)]
    return "".join(parts)


def desert(rng: Random) -> str:
    """Draw dunes and cacti under a hot sun."""
    parts = [sky(hsl(rng, 200, 65, 72), hsl(rng, 42, 75, 84), 65)]
    parts.append(circle(rng.uniform(12, 88), rng.uniform(10, 22), rng.uniform(6, 8), "#fff3c4"))
    parts.append(hills(rng, rng.uniform(50, 56), 5, hsl(rng, 32, 62, 68)))
    parts.append(hills(rng, rng.uniform(60, 65), 4, hsl(rng, 34, 70, 62)))
    for _ in range(rng.randint(1, 3)):
        x, base, height, fill = near_edge(rng), rng.uniform(66, 74), rng.uniform(12, 20), hsl(rng, 140, 32, 40)
        arm = 0.22 * height
        parts.append(line(x, base, x, base - height, fill, 3.2))
        parts.append(line(x, base - 0.4 * height, x - arm, base - 0.5 * height, fill, 2.2))
        parts.append(line(x - arm, base - 0.5 * height, x - arm, base - 0.75 * height, fill, 2.2))
        parts.append(line(x, base - 0.5 * height, x + arm, base - 0.6 * height, fill, 2.2))
        parts.append(line(x + arm, base - 0.6 * height, x + arm, base - 0.85 * height, fill, 2.2))
    parts.append(hills(rng, rng.uniform(73, 77), 2.5, hsl(rng, 38, 75, 70)))
    return "".join(parts)


def beach(rng: Random) -> str:
    """Draw sand, a turquoise sea, and often a palm."""
    horizon = rng.uniform(42, 48)
    parts = [sky(hsl(rng, 200, 80, 68), hsl(rng, 195, 75, 88), horizon + 1)]
    parts.append(clouds(rng, rng.randint(1, 3), 8, 30, "#fff"))
    parts.append(rect(0, horizon, 100, 30, hsl(rng, 188, 65, 48)))
    for _ in range(8):
        x, y = rng.uniform(0, 90), rng.uniform(horizon + 3, 62)
        parts.append(line(x, y, x + rng.uniform(6, 14), y, "#fff", 0.7, 0.6))
    shore = rng.uniform(64, 68)
    parts.append(hills(rng, shore - 2.5, 1.5, "#eefcff"))
    parts.append(hills(rng, shore, 1.5, hsl(rng, 45, 70, 80)))
    if rng.random() < 0.7:
        x, lean = rng.choice((rng.uniform(4, 14), rng.uniform(86, 96))), rng.uniform(-6, 6)
        top, leaf = rng.uniform(24, 32), hsl(rng, 135, 45, 40)
        parts.append(line(x, 78, x + lean, top, hsl(rng, 30, 40, 42), 2.8))
        for angle in range(-200, 40, 40):
            dx, dy = 13 * math.cos(math.radians(angle)), 8 * math.sin(math.radians(angle))
            parts.append(line(x + lean, top, x + lean + dx, top + dy + 3, leaf, 2.6))
    parts += [circle(rng.uniform(0, 100), rng.uniform(82, 98), rng.uniform(0.5, 1), "#fff4dd") for _ in range(8)]
    return "".join(parts)


def forest(rng: Random) -> str:
    """Draw a clearing in front of rows of dark pines."""
    parts = [sky(hsl(rng, 95, 35, 72), hsl(rng, 100, 40, 82))]
    for layer, (lightness, base) in enumerate(((52, 62), (38, 67), (26, 73))):
        fill = hsl(rng, 140, 38, lightness)
        for i in range(9 - 2 * layer):
            x = (i + rng.uniform(0.1, 0.9)) * 100 / (9 - 2 * layer) if layer < 2 else near_edge(rng)
            height = rng.uniform(40, 58) + 6 * layer
            parts.append(pine(x, base, height, fill, "#4d3626"))
    parts.append(hills(rng, rng.uniform(70, 73), 2, hsl(rng, 105, 38, 34)))
    for _ in range(14):
        x, y = rng.uniform(0, 100), rng.uniform(76, 98)
        parts.append(line(x, y, x + rng.uniform(-1, 1), y - 3, hsl(rng, 100, 40, 46), 0.9))
    return "".join(parts)


def meadow(rng: Random) -> str:
    """Draw green hills with flowers under a blue sky."""
    parts = [sky(hsl(rng, 205, 78, 70), hsl(rng, 200, 70, 90), 65), clouds(rng, rng.randint(2, 3), 8, 32, "#fff")]
    parts.append(hills(rng, rng.uniform(54, 60), 5, hsl(rng, 100, 45, 62)))
    parts.append(hills(rng, rng.uniform(64, 68), 3, hsl(rng, 104, 50, 50)))
    for _ in range(rng.randint(16, 26)):
        x, y = rng.uniform(0, 100), rng.uniform(70, 98)
        parts.append(
            circle(x, y, 1.2, rng.choice(("#fff", "#ffe04d", "#ff8fb8", "#c79bff"))) + circle(x, y, 0.45, "#f6b21b")
        )
    return "".join(parts)


def mountains(rng: Random) -> str:
    """Draw gray peaks with white caps behind a valley."""
    parts = [sky(hsl(rng, 212, 60, 62), hsl(rng, 205, 55, 88), 75)]
    for lightness, base, count in ((66, 66, 3), (48, 70, 3)):
        for i in range(count):
            x, height = (i + rng.uniform(0.2, 0.8)) * 100 / count, rng.uniform(36, 56)
            half, top = height * rng.uniform(0.55, 0.75), base - height
            parts.append(polygon([(x - half, base), (x, top), (x + half, base)], hsl(rng, 218, 20, lightness)))
            cap = 0.28
            parts.append(
                polygon(
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
    parts.append(rect(0, 68, 100, 32, hsl(rng, 90, 22, 46)))
    parts.append(hills(rng, rng.uniform(70, 73), 2, hsl(rng, 88, 24, 52)))
    parts += [
        ellipse(
            rng.uniform(0, 100),
            rng.uniform(78, 98),
            rng.uniform(1.5, 4),
            rng.uniform(0.9, 1.8),
            hsl(rng, 215, 8, 62),
        )
        for _ in range(8)
    ]
    return "".join(parts)


def sunset_sea(rng: Random) -> str:
    """Draw a low sun mirrored in a violet sea."""
    horizon = rng.uniform(52, 57)
    parts = [sky(hsl(rng, 275, 42, 42), hsl(rng, 25, 95, 66), horizon + 1)]
    x, radius = rng.uniform(15, 85), rng.uniform(11, 15)
    parts.append(circle(x, horizon - 1, radius * 1.5, "#ffd27a", 0.35) + circle(x, horizon - 1, radius, "#ffe28a"))
    parts += [
        ellipse(rng.uniform(0, 100), rng.uniform(8, 36), rng.uniform(10, 20), rng.uniform(1, 2), "#ff9d84", 0.7)
        for _ in range(4)
    ]
    parts.append(rect(0, horizon, 100, 28, hsl(rng, 255, 34, 38)))
    for i in range(7):
        y = horizon + 2 + 3 * i
        half = radius * rng.uniform(0.5, 1.1)
        parts.append(line(x - half, y, x + half, y, "#ffc46b", 1.1, 0.85))
    parts.append(hills(rng, rng.uniform(74, 77), 1.5, hsl(rng, 14, 28, 30)))
    return "".join(parts)


def rain(rng: Random) -> str:
    """Draw dark clouds, streaks of rain and puddles."""
    parts = [sky(hsl(rng, 212, 16, 46), hsl(rng, 208, 16, 66), 76)]
    parts.append(
        "".join(
            cloud(rng, rng.uniform(0, 100), rng.uniform(4, 18), rng.uniform(10, 15), hsl(rng, 215, 12, 36), 0.95)
            for _ in range(5)
        )
    )
    parts.append(hills(rng, rng.uniform(60, 64), 3, hsl(rng, 170, 12, 42)))
    parts.append(rect(0, 72, 100, 28, hsl(rng, 210, 14, 40)))
    parts += [
        ellipse(
            rng.uniform(0, 100),
            rng.uniform(78, 97),
            rng.uniform(6, 13),
            rng.uniform(1.2, 2.4),
            hsl(rng, 208, 25, 60),
        )
        for _ in range(6)
    ]
    for _ in range(60):
        x, y = rng.uniform(-5, 105), rng.uniform(0, 95)
        parts.append(line(x, y, x - 1.6, y + 6, "#d7ecfa", 0.8, 0.75))
    return "".join(parts)


def autumn(rng: Random) -> str:
    """Draw orange trees and falling leaves."""
    parts = [sky(hsl(rng, 42, 60, 84), hsl(rng, 32, 70, 90), 76)]
    parts.append(hills(rng, rng.uniform(54, 60), 4, hsl(rng, 35, 55, 66)))
    parts += [
        round_tree(
            rng,
            near_edge(rng),
            rng.uniform(68, 74),
            rng.uniform(36, 54),
            rng.choice(("#d9531e", "#e8891c", "#c9302c", "#f0b429")),
            "#5d4030",
        )
        for _ in range(rng.randint(4, 6))
    ]
    parts.append(hills(rng, rng.uniform(70, 73), 1.5, hsl(rng, 30, 55, 48)))
    for _ in range(45):
        x, y = rng.uniform(0, 100), rng.uniform(74, 99) if rng.random() < 0.75 else rng.uniform(5, 70)
        parts.append(ellipse(x, y, 1.5, 0.9, rng.choice(("#d9531e", "#f0b429", "#b5321f", "#f7d154"))))
    return "".join(parts)


def jungle(rng: Random) -> str:
    """Draw broad leaves from both sides and vines from above."""
    parts = [sky(hsl(rng, 80, 55, 64), hsl(rng, 120, 45, 44))]
    for lightness in (36, 29):
        parts += [
            ellipse(
                rng.uniform(0, 100),
                rng.uniform(5, 66),
                rng.uniform(10, 18),
                rng.uniform(8, 14),
                hsl(rng, 145, 50, lightness),
                0.55,
            )
            for _ in range(7)
        ]
    for _ in range(rng.randint(3, 5)):
        x, length = rng.uniform(4, 96), rng.uniform(22, 46)
        bend = rng.uniform(-8, 8)
        parts.append(
            f'<path d="M{x:.1f} 0 q{bend:.1f} {length / 2:.1f} 0 {length:.1f}" '
            f'stroke="{hsl(rng, 110, 45, 24)}" stroke-width="1.5" fill="none"/>'
        )
    parts.append(hills(rng, rng.uniform(72, 75), 2, hsl(rng, 95, 40, 26)))
    for edge in (0, 100):
        for _ in range(7):
            angle, length = rng.uniform(-75, 50), rng.uniform(18, 32)
            dx = length * math.cos(math.radians(angle)) * (1 if edge == 0 else -1)
            dy = length * math.sin(math.radians(angle))
            y = rng.uniform(20, 88)
            parts.append(
                polygon(
                    [
                        (edge, y - 4),
                        (edge + dx * 0.5, y + dy * 0.5 - 5),
                        (edge + dx, y + dy),
                        (edge + dx * 0.5, y + dy * 0.5 + 3),
                        (edge, y + 4),
                    ],
                    hsl(rng, 135, 58, 34, 20),
                )
            )
    return "".join(parts)
