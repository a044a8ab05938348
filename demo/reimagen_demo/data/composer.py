"""Draws training images: things warped to their places on an instance of a scene."""

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
_KEPT = 256
"""How many of the drawings larger than that are kept in memory."""
_KEPT_MADE_UP = 8
"""How many of made-up things are: none comes again in another sample."""


class Images(Protocol):
    """Where a composer takes its images from."""

    def sprite(self, entity: Entity, style: str, side: int) -> Image.Image:
        """A drawing, trimmed to its outline, RGBA, `side` pixels on its longer edge or fewer if there are no more."""

    def scene(self, scene: Scene, rng: Random, side: int) -> Image.Image:
        """An instance of a scene, RGB, of that side in pixels."""

    def pair(self, pair: PairId) -> Image.Image:
        """An image of the knowledge base, RGB."""


@dataclass(frozen=True)
class Composed:
    """An image and where its things are."""

    image: Image.Image
    """RGB."""
    placements: tuple[tuple[Placement, ...], ...]
    """Of each of the composition's things, from left to right."""


class Composer:
    """Draws images of one size, keeping the drawings in memory."""

    def __init__(self, images: Images, size: int) -> None:
        self.images = images
        self.size = size
        # Warping takes twice the image's resolution.
        self._side = min(2 * size, LARGEST_DRAWING)
        self._of_the_art = lru_cache(None if self._side <= _KEPT else _KEPT)(self._draw)
        self._made_up = lru_cache(_KEPT_MADE_UP)(self._draw)

    def drawing(self, entity: Entity, style: str) -> Drawing:
        """Return an entity's drawing, as large as it may be needed."""
        return self._made_up(entity, style) if is_made_up(entity) else self._of_the_art(entity, style)

    def image(self, rng: Random, composition: Composition, styles: Sequence[str]) -> Image.Image:
        """Return the image alone, RGB, of things that are drawn as they are."""
        return self.compose(rng, composition, styles, [False] * len(styles)).image

    def compose(
        self, rng: Random, composition: Composition, styles: Sequence[str], flipped: Sequence[bool]
    ) -> Composed:
        """Draw what a composition shows: things on an instance of its scene.

        Args:
            rng: Decides what the composition leaves open.
            composition: What is shown.
            styles: The style of each of its things.
            flipped: Whether the references of each of its things are mirror images of the drawings; placements are
                relative to them.
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
