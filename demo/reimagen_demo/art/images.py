"""Images made of the art: plain ones for the knowledge base, and the parts of training images."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image

from reimagen_demo.art.entities import Entity, by_code
from reimagen_demo.art.icons import STYLES, Art, Style, cached
from reimagen_demo.art.pairs import PAIR_FILL, PAIR_SIDE, PairId, pair_image
from reimagen_demo.scenes.registry import Scene

__all__ = ["PAIR_SIDE", "ArtImages", "PairImages"]


@dataclass(frozen=True)
class PairImages:
    """The knowledge base's images: a drawing centered on a plain pale background, `PAIR_SIDE` pixels square."""

    art: Art

    def file(self, entity: Entity, style: Style) -> Path:
        """Return the file of the cached PNG, after drawing it if it is missing."""
        path = self.art.folder / "images" / style.name / f"{entity.code}.png"
        return cached(path, lambda: self.draw(entity, style))

    def draw(self, entity: Entity, style: Style) -> Image.Image:
        """Return the image, RGB, without the cache."""
        sprite = self.art.draw(entity, style, round(PAIR_FILL * PAIR_SIDE), canvas=PAIR_SIDE)
        return pair_image(sprite, entity.code, style.name)


class ArtImages:
    """A composer's source of images that renders the art: every drawing at any size, every scene anew."""

    def __init__(self, art: Art) -> None:
        self._art = art
        self._pairs = PairImages(art)
        self._styles = {style.name: style for style in STYLES}

    def sprite(self, entity: Entity, style: str, side: int) -> Image.Image:
        """Return a drawing, trimmed to its outline, RGBA, `side` pixels on its longer edge."""
        return self._art.sprite(entity, self._styles[style], side)

    def scene(self, scene: Scene, rng: Random, side: int) -> Image.Image:
        """Return an instance of a scene, RGB, of that side in pixels."""
        return scene.render(rng, side)

    def pair(self, pair: PairId) -> Image.Image:
        """Return an image of the knowledge base, RGB."""
        if pair.scene:
            return pair.scene.render(Random(f"{pair.scene.phrase} {pair.number}"), PAIR_SIDE)
        with Image.open(self._pairs.file(by_code()[pair.code], self._styles[pair.style])) as image:
            return image.convert("RGB")
