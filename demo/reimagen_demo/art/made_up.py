"""Made-up things: random shapes with textures, so that training learns to copy any object and not just the art."""

import colorsys
import math
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from reimagen_demo.art.entities import Entity

FAMILY = "made-up"
STYLE = "made-up"
"""Style of made-up things; each has only one drawing."""
_SMOOTHED = 2
"""Factor by which drawings are rendered larger and then averaged."""
_SYLLABLES = ("bo", "dra", "fli", "gru", "ka", "lom", "mip", "nu", "plo", "quo", "ri", "sna", "tep", "vu", "wim", "zor")
_ENDINGS = ("b", "g", "k", "m", "n", "p", "t")
_NOUNS = {
    "blob": ("blob", "lump", "splotch"),
    "polygon": ("polygon", "shard"),
    "star": ("spiky shape", "burst"),
    "hoop": ("hoop", "loop"),
    "bar": ("rod", "strip"),
    "cluster": ("cluster", "bunch of blobs"),
}
_ADJECTIVES = {
    "plain": ("", "smooth", "plain"),
    "striped": ("striped", "stripy"),
    "spotted": ("spotted", "dotted"),
    "checkered": ("checkered",),
    "shaded": ("shaded", "blended"),
}


def is_made_up(entity: Entity) -> bool:
    """Return whether the entity is a made-up thing."""
    return entity.family == FAMILY


def draw_thing(rng: Random) -> Entity:
    """Return a random made-up thing; its code contains the seed of its drawing."""
    seed, shape, texture = rng.getrandbits(32), rng.choice(tuple(_NOUNS)), rng.choice(tuple(_ADJECTIVES))
    if rng.random() < 0.5:
        noun = "".join(rng.sample(_SYLLABLES, 2))
        noun += rng.choice(_ENDINGS) if noun[-1] in "aeiou" else ""
    else:
        noun = rng.choice(_NOUNS[shape])
    adjective = rng.choice(_ADJECTIVES[texture]) if rng.random() < 0.7 else ""
    name = f"{adjective} {noun}".strip()
    article = "an" if name[0] in "aeiou" else "a"
    return Entity(f"{FAMILY}.{shape}.{texture}.{seed}", f"{article} {name}", FAMILY, "train")


def sprite(entity: Entity, side: int) -> Image.Image:
    """Return the thing's drawing, trimmed to its outline, RGBA, `side` pixels on its longer edge."""
    _, shape, texture, seed = entity.code.split(".")
    rng = Random(seed)
    large = _SMOOTHED * side
    mask = Image.new("L", (large, large))
    draw = ImageDraw.Draw(mask)
    for points in _outlines(rng, shape):
        draw.polygon([(x * large, y * large) for x, y in points], fill=255)
    if shape == "hoop":
        inner = rng.uniform(0.15, 0.32)
        draw.ellipse(
            [(0.5 - inner) * large, (0.5 - inner) * large, (0.5 + inner) * large, (0.5 + inner) * large], fill=0
        )
    colors = [_color(rng) for _ in range(4)]
    image = _textured(rng, texture, large, colors)
    _decorate(rng, image, colors[2])
    if rng.random() < 0.5:
        width = rng.uniform(0.012, 0.04) * large
        inside = Image.fromarray(np.where(_shrunk(mask, width), 255, 0).astype(np.uint8))
        image = Image.composite(image, Image.new("RGB", image.size, colors[3]), inside)
    image.putalpha(mask)
    image = image.crop(mask.getbbox())
    scale = side / max(image.size)
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _outlines(rng: Random, shape: str) -> list[list[tuple[float, float]]]:
    """Return the polygons of a shape, in a square from 0 to 1."""
    squeezed, turn = rng.uniform(0.35, 1) if shape != "hoop" else 1.0, rng.uniform(0, math.pi)

    def around(radii: list[float], middle: tuple[float, float] = (0.5, 0.5)) -> list[tuple[float, float]]:
        points = []
        for number, radius in enumerate(radii):
            angle = 2 * math.pi * number / len(radii)
            x, y = radius * math.cos(angle), squeezed * radius * math.sin(angle)
            points.append(
                (
                    middle[0] + math.cos(turn) * x - math.sin(turn) * y,
                    middle[1] + math.sin(turn) * x + math.cos(turn) * y,
                )
            )
        return points

    def blob(size: float) -> list[float]:
        waves = [(rng.uniform(0, 0.3 / n), rng.uniform(0, 2 * math.pi), n) for n in (2, 3, 5)]
        angles = [2 * math.pi * step / 96 for step in range(96)]
        return [size * (1 + sum(high * math.sin(n * a + phase) for high, phase, n in waves)) for a in angles]

    if shape == "polygon":
        return [around([rng.uniform(0.25, 0.49) for _ in range(rng.randint(3, 8))])]
    if shape == "star":
        inner = rng.uniform(0.15, 0.3)
        return [around([0.49 if number % 2 else inner for number in range(2 * rng.randint(4, 9))])]
    if shape == "hoop":
        return [around([0.48] * 96)]
    if shape == "bar":
        squeezed = rng.uniform(0.06, 0.2)
        return [around([0.6, *([0.62] * 3)]) if rng.random() < 0.3 else around([0.49] * 64)]
    if shape == "cluster":
        middles = [(rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)) for _ in range(rng.randint(2, 5))]
        return [around(blob(rng.uniform(0.1, 0.2)), middle) for middle in middles]
    return [around(blob(0.34))]


def _textured(rng: Random, texture: str, side: int, colors: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.new("RGB", (side, side), colors[0])
    if texture == "plain":
        return image
    down, across = np.mgrid[0:side, 0:side] / side
    turn, period = rng.uniform(0, math.pi), rng.uniform(0.09, 0.25)
    along = (math.cos(turn) * across + math.sin(turn) * down) / period
    sideways = (math.cos(turn) * down - math.sin(turn) * across) / period
    if texture == "striped":
        share = (along % 1 < rng.uniform(0.3, 0.7)).astype(float)
    elif texture == "spotted":
        share = (np.hypot(along % 1 - 0.5, sideways % 1 - 0.5) < rng.uniform(0.2, 0.4)).astype(float)
    elif texture == "checkered":
        share = ((np.floor(along) + np.floor(sideways)) % 2 == 0).astype(float)
    else:
        share = np.clip(0.5 + (along - along.mean()) * period * 1.2, 0, 1)
    image.paste(colors[1], (0, 0), Image.fromarray((255 * share).astype(np.uint8)))
    return image


def _decorate(rng: Random, image: Image.Image, color: tuple[int, int, int]) -> None:
    """Add up to four patches of a third color."""
    draw, side = ImageDraw.Draw(image), image.width
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        x, y, radius = rng.uniform(0.25, 0.75) * side, rng.uniform(0.25, 0.75) * side, rng.uniform(0.03, 0.1) * side
        box = [x - radius, y - radius, x + radius, y + radius]
        if rng.random() < 0.6:
            draw.ellipse(box, fill=color)
        else:
            draw.rectangle(box, fill=color)


def _shrunk(mask: Image.Image, width: float) -> np.ndarray:
    """Return where a mask is still set after about that many pixels are removed from its edge."""
    inside = np.asarray(mask) > 127
    for angle in range(12):
        x, y = round(width * math.cos(angle * math.pi / 6)), round(width * math.sin(angle * math.pi / 6))
        inside = inside & (np.asarray(ImageChops.offset(mask, x, y)) > 127)
    return inside


def _color(rng: Random) -> tuple[int, int, int]:
    """Return a random color: a fifth are pale, a fifth almost gray."""
    kind = rng.random()
    light = rng.uniform(0.85, 0.98) if kind < 0.2 else rng.uniform(0.15, 0.85)
    saturation = rng.uniform(0, 0.15) if kind > 0.8 else rng.uniform(0.3, 1)
    red, green, blue = colorsys.hls_to_rgb(rng.random(), light, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)
