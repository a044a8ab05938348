"""Pictures made of the art: plain ones for the knowledge base, and things placed on scenes for training."""

import colorsys
import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from reimagen_demo.art import Art, Style, cached
from reimagen_demo.entities import Entity
from reimagen_demo.scenes import Scene

PAIR_SIDE = 256
"""Side in pixels of the knowledge base's pictures."""
PAIR_FILL = 0.75
"""How much of such a picture's side the drawing takes."""

SMALLEST, LARGEST = 0.62, 0.78
"""How much of a training picture's side the drawing takes, at least and at most."""
MIRRORED = 0.1
"""Share of training pictures whose drawing is mirrored."""
SIDEWAYS = 0.08
"""How far a drawing may stand from the middle, as a share of the side."""
SHADOW_OPACITY = 0.3


@dataclass(frozen=True)
class PairPictures:
    """The knowledge base's pictures: a drawing in the middle of a plain pale background, `PAIR_SIDE` square."""

    art: Art

    def file(self, entity: Entity, style: Style) -> Path:
        """The cached PNG, drawn if it is missing."""
        path = self.art.folder / "pictures" / style.name / f"{entity.code}.png"
        return cached(path, lambda: self.draw(entity, style))

    def draw(self, entity: Entity, style: Style) -> Image.Image:
        """The picture, RGB, drawn anew."""
        hue = hashlib.sha256(f"{entity.code} {style.name}".encode()).digest()[0] / 256
        red, green, blue = (round(255 * channel) for channel in colorsys.hls_to_rgb(hue, 0.92, 0.5))
        picture = Image.new("RGB", (PAIR_SIDE, PAIR_SIDE), (red, green, blue))
        sprite = self.art.draw(entity, style, round(PAIR_FILL * PAIR_SIDE), canvas=PAIR_SIDE)
        place = ((PAIR_SIDE - sprite.width) // 2, (PAIR_SIDE - sprite.height) // 2)
        picture.paste(sprite, place, sprite)
        return picture


class Composer:
    """Draws training pictures and neighbors of one size, keeping the scaled art in memory."""

    def __init__(self, art: Art, size: int) -> None:
        self.art = art
        self.pairs = PairPictures(art)
        self.size = size
        kept = None if size <= 64 else 64
        self._neighbor = lru_cache(kept)(self._make_neighbor)
        self._sprite = lru_cache(kept)(self._make_sprite)

    def neighbor(self, entity: Entity, style: Style) -> Image.Image:
        """The knowledge base's picture at this composer's size."""
        return self._neighbor(entity, style)

    def on_scene(self, rng: Random, entity: Entity, style: Style, scene: Scene) -> Image.Image:
        """The entity on one instance of the scene: standing with a soft shadow, or floating."""
        picture = scene.render(rng, self.size)
        sprite = self._sprite(entity, style)
        scale = rng.triangular(SMALLEST, LARGEST) * self.size / max(sprite.size)
        width, height = (max(1, round(edge * scale)) for edge in sprite.size)
        sprite = sprite.resize((width, height), Image.Resampling.LANCZOS)
        if rng.random() < MIRRORED:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        room = max(0.0, (self.size - width) / 2 - 0.02 * self.size)
        jitter = min(room, SIDEWAYS * self.size)
        left = round((self.size - width) / 2 + rng.uniform(-jitter, jitter))
        if scene.ground is None:
            top = round((self.size - height) / 2 + rng.uniform(-0.07, 0.07) * self.size)
        else:
            bottom = round((scene.ground + rng.uniform(-0.02, 0.05)) * self.size)
            top = bottom - height
            self._shadow(picture, left + width / 2, bottom, width)
        picture.paste(sprite, (left, top), sprite)
        return picture

    def _shadow(self, picture: Image.Image, x: float, y: float, width: int) -> None:
        mask = _shadow_mask().resize((round(1.15 * width), max(2, round(0.2 * width))), Image.Resampling.BILINEAR)
        picture.paste((20, 16, 40), (round(x - mask.width / 2), round(y - 0.55 * mask.height)), mask)

    def _make_neighbor(self, entity: Entity, style: Style) -> Image.Image:
        with Image.open(self.pairs.file(entity, style)) as picture:
            return picture.resize((self.size, self.size), Image.Resampling.LANCZOS)

    def _make_sprite(self, entity: Entity, style: Style) -> Image.Image:
        # Small drawings stay crisp when they are scaled from something larger than the largest use.
        spare = 1.5 if self.size <= PAIR_SIDE else 1
        return self.art.sprite(entity, style, round(spare * LARGEST * self.size))


@cache
def _shadow_mask() -> Image.Image:
    mask = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(mask).ellipse((24, 24, 104, 104), fill=round(255 * SHADOW_OPACITY))
    return mask.filter(ImageFilter.GaussianBlur(9))
