"""Draw training images: things warped to their placements on an instance of a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random
from typing import Protocol

from PIL import Image, ImageDraw, ImageFilter

from reimagen_demo.art.colors import recolored
from reimagen_demo.art.entities import Entity
from reimagen_demo.art.made_up import is_made_up
from reimagen_demo.art.made_up import sprite as made_up_sprite
from reimagen_demo.art.pairs import PairId
from reimagen_demo.data.compositions import Composition
from reimagen_demo.data.layout import Placed, lay_out
from reimagen_demo.data.placing import Drawing, Placement, warped
from reimagen_demo.scenes.registry import Scene
from reimagen_demo.scenes.weather import fall, light_scene, light_thing

SHADOW_OPACITY = 0.3
LARGEST_DRAWING = 1024
"""Longest edge in pixels of the drawings that are warped."""
_CACHED = 256
"""Number of cached drawings, if the drawings are larger than this many pixels; else all are cached."""
_CACHED_MADE_UP = 8
"""Number of cached drawings of made-up things, which do not recur in other samples."""


class Images(Protocol):
    """A composer's source of images."""

    def sprite(self, entity: Entity, style: str, side: int) -> Image.Image:
        """Return a drawing, trimmed to its outline, RGBA, with at most `side` pixels on its longer edge."""

    def scene(self, scene: Scene, rng: Random, side: int) -> Image.Image:
        """Return an instance of a scene, RGB, of that side in pixels."""

    def pair(self, pair: PairId) -> Image.Image:
        """Return an image of the knowledge base, RGB."""


@dataclass(frozen=True)
class Composed:
    """An image and the placements of its things."""

    image: Image.Image
    """The image, RGB."""
    placements: tuple[tuple[Placement, ...], ...]
    """Placements of each of the composition's things, from left to right."""


class Composer:
    """A composer of images of one size, with a cache of drawings."""

    def __init__(self, images: Images, size: int) -> None:
        self.images = images
        self.size = size
        # Warping takes twice the image's resolution.
        self._side = min(2 * size, LARGEST_DRAWING)
        self._art_drawings = lru_cache(None if self._side <= _CACHED else _CACHED)(self._draw)
        self._made_up_drawings = lru_cache(_CACHED_MADE_UP)(self._draw)

    def drawing(self, entity: Entity, style: str) -> Drawing:
        """Return an entity's drawing in the largest size that may be needed."""
        return self._made_up_drawings(entity, style) if is_made_up(entity) else self._art_drawings(entity, style)

    def image(self, rng: Random, composition: Composition, styles: Sequence[str]) -> Image.Image:
        """Return only the image, RGB, of things that are not flipped."""
        return self.compose(rng, composition, styles, [False] * len(styles)).image

    def compose(
        self, rng: Random, composition: Composition, styles: Sequence[str], flipped: Sequence[bool]
    ) -> Composed:
        """Draw what a composition shows: things on an instance of its scene.

        Args:
            rng: decides what the composition leaves open.
            composition: what the image shows.
            styles: the style of each thing.
            flipped: for each thing, whether its references are mirror images of the drawing. Placements are relative to
                the references.
        """
        drawings = [
            self._flipped(self.drawing(thing.entity, style), flip)
            for thing, style, flip in zip(composition.things, styles, flipped, strict=True)
        ]
        placed = lay_out(rng, composition, drawings)
        scene = self.images.scene(composition.scene, rng, self.size)
        image = light_scene(scene, composition.time, composition.weather)
        for one in placed:
            self._put(image, drawings[one.thing], one, composition)
        fall(image, rng, composition.weather)
        placements: list[list[Placement]] = [[] for _ in composition.things]
        for one in placed:
            placements[one.thing].append(one.placement)
        return Composed(image, tuple(tuple(sorted(of_thing, key=lambda p: p.x)) for of_thing in placements))

    def _put(self, image: Image.Image, drawing: Drawing, placed: Placed, composition: Composition) -> None:
        placement, size = placed.placement, self.size
        if placed.standing:
            extent = drawing.extent(mirrored=placement.mirrored, angle=placement.angle).scaled(placement.size)
            _cast_shadow(
                image,
                (placement.x + (extent.right - extent.left) / 2) * size,
                (placement.y + extent.down) * size,
                max(2, round(extent.width * size)),
            )
        thing, left, top = warped(drawing, placement, size)
        color = composition.things[placed.thing].color
        if color:
            thing = recolored(thing, color)
        image.paste(light_thing(thing, composition.time, composition.weather), (left, top), thing)

    def _draw(self, entity: Entity, style: str) -> Drawing:
        if is_made_up(entity):
            return Drawing.padded(made_up_sprite(entity, self._side))
        return Drawing.padded(self.images.sprite(entity, style, self._side))

    def _flipped(self, drawing: Drawing, flip: bool) -> Drawing:
        return Drawing(drawing.sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) if flip else drawing


def _cast_shadow(image: Image.Image, x: float, y: float, width: int) -> None:
    mask = _shadow_mask().resize((round(1.15 * width), max(2, round(0.2 * width))), Image.Resampling.BILINEAR)
    image.paste((20, 16, 40), (round(x - mask.width / 2), round(y - 0.55 * mask.height)), mask)


@cache
def _shadow_mask() -> Image.Image:
    mask = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(mask).ellipse((24, 24, 104, 104), fill=round(255 * SHADOW_OPACITY))
    return mask.filter(ImageFilter.GaussianBlur(9))
