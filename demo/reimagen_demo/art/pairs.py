"""The appearance of the knowledge base's images, and the structure of their ids."""

import colorsys
import hashlib
from dataclasses import dataclass
from typing import Self

from PIL import Image

from reimagen_demo.art.entities import Entity, by_code
from reimagen_demo.scenes.registry import Scene, by_phrase

STYLE_NAMES = ("fluent-emoji", "noto", "twemoji", "fluent-emoji-flat")
"""The four icon sets, in order of quality."""
PAIR_SIDE = 256
"""Side in pixels of the knowledge base's images."""
PAIR_FILL = 0.75
"""Share of such an image's side that the drawing takes."""
_SCENE = "scene"


@dataclass(frozen=True)
class PairId:
    """The parts of a pair's id, such as `1f98a.1-noto`, or `scene.in-the-snow.0` for an empty scene."""

    code: str
    """The entity's code; `scene` for a scene."""
    style: str
    """The style's name, or the scene's phrase with hyphens."""
    number: int
    """Index of the style, or of the image among the scene's images."""

    @classmethod
    def parse(cls, identifier: str) -> Self:
        """Parse an id."""
        code, _, rest = identifier.partition(".")
        if code == _SCENE:
            style, _, number = rest.rpartition(".")
        else:
            number, _, style = rest.partition("-")
        return cls(code, style, int(number))

    @property
    def entity(self) -> Entity | None:
        """The entity that the pair shows; None for an empty scene."""
        return None if self.code == _SCENE else by_code()[self.code]

    @property
    def scene(self) -> Scene | None:
        """The empty scene that the pair shows; None for an entity."""
        return by_phrase()[self.style.replace("-", " ")] if self.code == _SCENE else None

    @property
    def caption(self) -> str:
        """The pair's caption in the knowledge base."""
        return self.scene.caption if self.scene else by_code()[self.code].phrase


def pair_hue(code: str, style: str) -> float:
    """Return the hue, 0 to 1, of the background of an entity's image."""
    return hashlib.sha256(f"{code} {style}".encode()).digest()[0] / 256


def on_plain_ground(sprite: Image.Image, side: int, hue: float, left: int, top: int) -> Image.Image:
    """Return an image of that side in pixels: the drawing at a position on a plain pale background of that hue."""
    red, green, blue = (round(255 * channel) for channel in colorsys.hls_to_rgb(hue, 0.92, 0.5))
    image = Image.new("RGB", (side, side), (red, green, blue))
    image.paste(sprite, (left, top), sprite)
    return image


def pair_image(sprite: Image.Image, code: str, style: str) -> Image.Image:
    """Return the knowledge base's image of an entity in a style.

    Args:
        sprite: the drawing, RGBA, `PAIR_FILL * PAIR_SIDE` pixels on its longer edge.
        code: the entity's code.
        style: the style's name.
    """
    return on_plain_ground(sprite, PAIR_SIDE, pair_hue(code, style), *in_the_middle(sprite))


def in_the_middle(sprite: Image.Image) -> tuple[int, int]:
    """Return the upper left corner of a drawing that is centered in such an image."""
    return (PAIR_SIDE - sprite.width) // 2, (PAIR_SIDE - sprite.height) // 2
