"""Draws training pictures and their neighbors from recipes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random
from typing import Protocol

from PIL import Image, ImageDraw, ImageFilter

from reimagen_demo.entities import Entity
from reimagen_demo.pairs import PairId, on_plain_ground
from reimagen_demo.prompts import Composition
from reimagen_demo.scenes import Scene
from reimagen_demo.weather import fall, light_scene, light_thing

SMALLEST, LARGEST = 0.62, 0.78
"""How much of a picture's side one thing takes, at least and at most, where its size is not named."""
TINY, HUGE = (0.26, 0.36), (0.88, 0.93)
HALF = ((0.41, 0.45), (0.52, 0.62))
"""The width and the height that a thing may take in its half of the picture, each from, to."""
HALVES = (0.26, 0.74)
"""The middles of the two halves, a little outwards."""
MIRRORED = 0.1
"""Share of things that are mirrored."""
SIDEWAYS = 0.08
"""How far a thing may stand from the middle, as a share of the side."""
MARGIN = 0.02
SHADOW_OPACITY = 0.3

VARIED_FILL = (0.5, 0.95)
"""How much of its side the drawing takes in a neighbor that is varied."""
_KEPT_ABOVE_64 = 256


class Pictures(Protocol):
    """Where a composer takes its pictures from."""

    def sprite(self, entity: Entity, style: str, side: int) -> Image.Image:
        """A drawing, trimmed to its outline, RGBA, `side` pixels on its longer edge or fewer if there are no more."""

    def scene(self, scene: Scene, rng: Random, side: int) -> Image.Image:
        """An instance of a scene, RGB, of that side in pixels."""

    def pair(self, pair: PairId) -> Image.Image:
        """A picture of the knowledge base, RGB."""


@dataclass(frozen=True)
class _Spot:
    """Where a thing goes; shares of the side."""

    middle: float
    sideways: float
    """How far from `middle` it may be, where there is room."""
    width: float
    """The most that it may take, of the two one exactly."""
    height: float


@dataclass(frozen=True)
class Placed:
    """A thing as it was put into a picture, before light falls on it."""

    sprite: Image.Image
    left: int
    top: int


class Composer:
    """Draws pictures of one size, keeping the scaled art in memory."""

    def __init__(self, pictures: Pictures, size: int) -> None:
        self._pictures = pictures
        self._size = size
        self._sprite = lru_cache(None if size <= 64 else _KEPT_ABOVE_64)(self._make_sprite)

    def picture(self, rng: Random, composition: Composition, styles: Sequence[str]) -> Image.Image:
        """What a composition shows, RGB: things on an instance of its scene, standing with soft shadows, or floating.

        Args:
            rng: Decides what the composition leaves open.
            composition: What is shown.
            styles: The style of each of its entities.
        """
        return self.picture_and_things(rng, composition, styles)[0]

    def picture_and_things(
        self, rng: Random, composition: Composition, styles: Sequence[str]
    ) -> tuple[Image.Image, list[Placed]]:
        """The same, and the things in the order of the composition's entities."""
        scene = self._pictures.scene(composition.scene, rng, self._size)
        picture = light_scene(scene, composition.time, composition.weather)
        things = list(zip(composition.entities, styles, strict=True)) * composition.count
        placed = [
            self._put(rng, picture, self._sprite(entity, style), spot, composition)
            for (entity, style), spot in zip(things, _spots(rng, composition), strict=True)
        ]
        fall(picture, rng, composition.weather)
        return picture, placed

    def neighbor(self, pair: PairId) -> Image.Image:
        """A picture of the knowledge base at this composer's size, RGB."""
        return self._pictures.pair(pair).resize((self._size, self._size), Image.Resampling.LANCZOS)

    def varied_neighbor(self, rng: Random, pair: PairId) -> Image.Image:
        """The same drawing as a user's own picture might have it: on another pale ground, moved, scaled, mirrored."""
        if pair.entity is None:
            return self.neighbor(pair)
        sprite = self._sprite(pair.entity, pair.style)
        sprite = _scaled(sprite, rng.uniform(*VARIED_FILL) * self._size / max(sprite.size))
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, top = (rng.randint(0, max(0, self._size - edge)) for edge in sprite.size)
        return on_plain_ground(sprite, self._size, rng.random(), left, top)

    def aligned_neighbor(self, rng: Random, thing: Placed) -> Image.Image:
        """A thing alone on a pale ground, where it stands in the picture and as large."""
        return on_plain_ground(thing.sprite, self._size, rng.random(), thing.left, thing.top)

    def in_place_of(self, thing: Placed, entity: Entity, style: str) -> Placed:
        """A drawing as large as a thing that was put into a picture, in its middle and on its ground."""
        sprite = self._sprite(entity, style)
        sprite = _scaled(sprite, max(thing.sprite.size) / max(sprite.size))
        return Placed(
            sprite,
            thing.left + (thing.sprite.width - sprite.width) // 2,
            thing.top + thing.sprite.height - sprite.height,
        )

    def _put(
        self, rng: Random, picture: Image.Image, sprite: Image.Image, spot: _Spot, composition: Composition
    ) -> Placed:
        size, ground = self._size, composition.scene.ground
        sprite = _scaled(sprite, size * min(spot.width / sprite.width, spot.height / sprite.height))
        width, height = sprite.size
        if rng.random() < MIRRORED:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        center = size * spot.middle
        room = max(0.0, min(center, size - center) - width / 2 - MARGIN * size)
        jitter = min(room, spot.sideways * size)
        left = round(center - width / 2 + rng.uniform(-jitter, jitter))
        if ground is None:
            space = (size - height) / 2
            top = round(space + rng.uniform(-1, 1) * min(0.07 * size, max(0.0, space - MARGIN * size)))
        else:
            # What is too tall to stand where the ground begins stands nearer.
            bottom = round(max((ground + rng.uniform(-0.02, 0.05)) * size, height + MARGIN * size))
            top = bottom - height
            _cast_shadow(picture, left + width / 2, bottom, width)
        picture.paste(light_thing(sprite, composition.time, composition.weather), (left, top), sprite)
        return Placed(sprite, left, top)

    def _make_sprite(self, entity: Entity, style: str) -> Image.Image:
        # Small drawings stay crisp when they are scaled from something larger than the largest use.
        spare = 1.25 if self._size <= 256 else 1
        return self._pictures.sprite(entity, style, round(spare * self._size))


def _spots(rng: Random, composition: Composition) -> list[_Spot]:
    """Where the things of a composition go, in the order of its entities."""
    if len(composition.entities) * composition.count == 2 or composition.place:
        width, height = (rng.uniform(*ends) for ends in HALF)
        left, right = (_Spot(middle, 0.02, width, height) for middle in HALVES)
        if len(composition.entities) * composition.count == 1:
            return [right if composition.place == "right" else left]
        return [right, left] if composition.place == "right" else [left, right]
    if composition.size:
        fill = rng.uniform(*(TINY if composition.size == "tiny" else HUGE))
    else:
        fill = rng.triangular(SMALLEST, LARGEST)
    return [_Spot(0.5, SIDEWAYS, fill, fill)]


def _scaled(sprite: Image.Image, scale: float) -> Image.Image:
    width, height = (max(1, round(edge * scale)) for edge in sprite.size)
    return sprite.resize((width, height), Image.Resampling.LANCZOS)


def _cast_shadow(picture: Image.Image, x: float, y: float, width: int) -> None:
    mask = _shadow_mask().resize((round(1.15 * width), max(2, round(0.2 * width))), Image.Resampling.BILINEAR)
    picture.paste((20, 16, 40), (round(x - mask.width / 2), round(y - 0.55 * mask.height)), mask)


@cache
def _shadow_mask() -> Image.Image:
    mask = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(mask).ellipse((24, 24, 104, 104), fill=round(255 * SHADOW_OPACITY))
    return mask.filter(ImageFilter.GaussianBlur(9))
