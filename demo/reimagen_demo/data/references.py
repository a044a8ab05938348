"""Draw references, the images of a sample's neighbors, with their mattes and boxes."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image

from reimagen_demo.art.entities import Entity
from reimagen_demo.art.pairs import PAIR_FILL, PAIR_SIDE, in_the_middle, pair_image
from reimagen_demo.data.composer import Composer
from reimagen_demo.scenes.grounds import Grounds

SMALLEST_SIDE = 128
"""Least side in pixels of a stored reference."""
FILL = (0.4, 0.95)
"""Range of the longest edge of a thing in a varied reference, as a share of the reference's side."""


@dataclass(frozen=True)
class Reference:
    """A neighbor's contents, before it is drawn."""

    entity: Entity
    style: str
    thing: int | None
    """Index of the composition's thing that it shows; None if it shows none of them."""
    mirrored: bool
    varied: bool
    """Whether its background, size and position are random; else it looks as in the knowledge base."""


@dataclass(frozen=True)
class ReferenceImage:
    """A drawn reference."""

    image: Image.Image
    """The image, RGB."""
    matte: Image.Image
    """Alpha as gray: 255 where the thing is, 0 on its background."""
    box: tuple[float, float, float]
    """Center (x, y) and longest edge of the thing's bounding box, as shares of the side."""


class References:
    """A source of references for images of one size."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._side = max(SMALLEST_SIDE, composer.size)
        self._grounds = Grounds(composer.images, self._side)
        self.as_in_knowledge_base = lru_cache(None if self._side <= SMALLEST_SIDE else 256)(self._as_in_knowledge_base)

    def draw(self, rng: Random, reference: Reference) -> ReferenceImage:
        """Draw a varied reference: a thing of any size, anywhere on any background."""
        sprite = self._sprite(reference.entity, reference.style, rng.uniform(*FILL))
        if reference.mirrored:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, top = (rng.randint(0, self._side - edge) for edge in sprite.size)
        image = self._grounds.draw(rng)
        image.paste(sprite, (left, top), sprite)
        return self._finished(image, sprite, left, top)

    def _as_in_knowledge_base(self, entity: Entity, style: str) -> ReferenceImage:
        """Draw a reference as it is in the knowledge base: centered on its pale background."""
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
