"""Draws references: the images of things that a sample's neighbors are, with their mattes and boxes."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image

from reimagen_demo.art.entities import Entity
from reimagen_demo.art.pairs import PAIR_FILL, PAIR_SIDE, in_the_middle, pair_image
from reimagen_demo.data.composer import Composer
from reimagen_demo.scenes.grounds import Grounds

SMALLEST_SIDE = 128
"""Side in pixels below which no reference is stored."""
FILL = (0.4, 0.95)
"""The longest edge of a thing in a reference that is varied, as a share of its side, from, to."""


@dataclass(frozen=True)
class Reference:
    """What a neighbor shows, before it is drawn."""

    entity: Entity
    style: str
    thing: int | None
    """Which of the composition's things it is a reference of; None: of none of them."""
    mirrored: bool
    varied: bool
    """Whether its ground, size and place are any; else it looks as in the knowledge base."""


@dataclass(frozen=True)
class ReferenceImage:
    """A reference, drawn."""

    image: Image.Image
    """RGB."""
    matte: Image.Image
    """Its alpha, gray: 255 where the thing is, 0 where its ground is."""
    box: tuple[float, float, float]
    """The center, to the right and down, and the longest edge of the thing's bounding box, as shares of the side."""


class References:
    """Draws references for images of one size."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._side = max(SMALLEST_SIDE, composer.size)
        self._grounds = Grounds(composer.images, self._side)
        self.as_in_the_base = lru_cache(None if self._side <= SMALLEST_SIDE else 256)(self._as_in_the_base)

    def draw(self, rng: Random, reference: Reference) -> ReferenceImage:
        """Draw a reference that is varied: a thing of any size, anywhere on any ground."""
        sprite = self._sprite(reference.entity, reference.style, rng.uniform(*FILL))
        if reference.mirrored:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, top = (rng.randint(0, self._side - edge) for edge in sprite.size)
        image = self._grounds.draw(rng)
        image.paste(sprite, (left, top), sprite)
        return self._finished(image, sprite, left, top)

    def _as_in_the_base(self, entity: Entity, style: str) -> ReferenceImage:
        """Draw a reference as the knowledge base has it: in the middle of its pale ground."""
        sprite = self._composer.images.sprite(entity, style, round(PAIR_FILL * PAIR_SIDE))
        image = pair_image(sprite, entity.code, style)
        return self._finished(image, sprite, *in_the_middle(sprite))

    def _sprite(self, entity: Entity, style: str, fill: float) -> Image.Image:
        sprite = self._composer.drawing(entity, style).trimmed
        scale = fill * self._side / max(sprite.size)
        width, height = (max(1, round(edge * scale)) for edge in sprite.size)
        return sprite.resize((width, height), Image.Resampling.LANCZOS)

    def _finished(self, image: Image.Image, sprite: Image.Image, left: int, top: int) -> ReferenceImage:
        drawn = image.width
        matte = Image.new("L", image.size)
        matte.paste(sprite.getchannel("A"), (left, top))
        box = ((left + sprite.width / 2) / drawn, (top + sprite.height / 2) / drawn, max(sprite.size) / drawn)
        if drawn != self._side:
            shape = (self._side, self._side)
            image, matte = (each.resize(shape, Image.Resampling.LANCZOS) for each in (image, matte))
        return ReferenceImage(image, matte, box)
