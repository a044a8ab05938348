"""The judge's training images: every entity in every style on every scene, with the faults of generated images.

Unlike the generator's training images, these vary as much as possible: all sizes and positions, turned, mirrored,
recolored, blurred, noisy, off in color, or cropped to one half of two entities. A part of them are close-ups: an entity
upright in the middle, on a magnified and turned part of a scene, as registration cuts it out of an image. The judge is
measured on images that are composed as for the generator.
"""

import io
from dataclasses import dataclass
from random import Random
from typing import Self, get_args

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from reimagen_demo.art.colors import Color, recolored
from reimagen_demo.art.entities import Entity
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.scenes.registry import SCENES, Scene, Time, Weather
from reimagen_demo.scenes.weather import fall, light_scene, light_thing
from reimagen_evaluation.features.network import Images
from reimagen_evaluation.judges.classifier_training import LabeledImages
from reimagen_evaluation.judges.judge import Pixels
from reimagen_evaluation.judges.squares import halves, to_side
from reimagen_evaluation.registration import CLOSE_UP_SHARE

_SCENES_KEPT = 150
"""Number of instances of each scene; other instances are used to measure the judge."""
_VARIED, _CLOSE = 0.45, 0.25
"""Shares of images with full variation, and of close-ups; the others show an entity plainly."""
_RECOLORED = 0.1
"""Share of drawings in varied images that have another color."""
_PLAIN_BEFORE = 600
"""Number of batches over which the share of other images rises from zero, so that plain ones are learned first."""
NO_SCENE = -1
"""Label of an image in which the scene cannot be recognized."""


@dataclass(frozen=True)
class Light:
    """The time of day and the weather of an image; None for neither."""

    time: Time | None = None
    weather: Weather | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Return a random time or weather that the scene allows, for a fifth of the images."""
        kind = rng.random()
        if kind < 0.1 and scene.times:
            return cls(time=scene.times[rng.integers(len(scene.times))])
        if kind > 0.9 and scene.weathers:
            return cls(weather=scene.weathers[rng.integers(len(scene.weathers))])
        return cls()


class JudgeImages:
    """Batches by number; each depends only on the seed and the number."""

    def __init__(
        self,
        art: Art,
        known: tuple[Entity, ...],
        side: int,
        batch_size: int,
        seed: int,
        plain_before: int = _PLAIN_BEFORE,
    ) -> None:
        """Scale all drawings and render the scenes, which takes a minute.

        Args:
            art: icon art.
            known: the entities to show.
            side: side of the images in pixels.
            batch_size: images per batch.
            seed: decides everything that is random.
            plain_before: number of batches over which the share of images that are not plain rises from zero.
        """
        self.known = known
        self.side = side
        self.batch_size = batch_size
        self.seed = seed
        self.plain_before = plain_before
        self._sprites = [
            [art.sprite(entity, style, side) for style in STYLES]
            for entity in tqdm(known, desc="drawings", unit="entity")
        ]
        self._scenes = [
            [scene.render(Random(f"judge/{seed}/{scene.phrase}/{number}"), side) for number in range(_SCENES_KEPT)]
            for scene in tqdm(SCENES, desc="scenes", unit="scene")
        ]

    def batch(self, number: int) -> LabeledImages:
        """Return the batch of a number."""
        rng = np.random.default_rng((self.seed, number))
        entities = rng.integers(len(self.known), size=self.batch_size)
        scenes = rng.integers(len(SCENES), size=self.batch_size)
        kinds = rng.random(self.batch_size) / min(1.0, (1 + number) / (1 + self.plain_before))
        varied, close = kinds < _VARIED, (kinds >= _VARIED) & (kinds < _VARIED + _CLOSE)
        draw = {(False, False): self._plain, (True, False): self._varied, (False, True): self._close_up}
        images = [
            draw[bool(v), bool(c)](rng, int(e), int(s))
            for v, c, e, s in zip(varied, close, entities, scenes, strict=True)
        ]
        off_color = np.where((varied | close)[:, None, None, None], _off_color(rng, np.stack(images)), images)
        labels = np.where(close, NO_SCENE, scenes)
        return LabeledImages(off_color, entities.astype(np.int32), labels.astype(np.int32))

    def _plain(self, rng: np.random.Generator, entity: int, scene: int) -> Pixels:
        image = self._scenes[scene][rng.integers(_SCENES_KEPT)].copy()
        sprite = self._sprites[entity][rng.integers(len(STYLES))]
        x, scale = 0.5 + rng.uniform(-0.15, 0.15), rng.uniform(0.4, 0.8)
        self._put(rng, image, sprite, SCENES[scene], Light(), x, scale, tilted=0.0)
        return np.asarray(image)

    def _varied(self, rng: np.random.Generator, entity: int, index: int) -> Pixels:
        scene, light = SCENES[index], Light.draw(rng, SCENES[index])
        image = light_scene(self._scenes[index][rng.integers(_SCENES_KEPT)].copy(), light.time, light.weather)
        is_right, kind = int(rng.integers(2)), rng.random()
        if kind < 0.7:
            x = 0.5 + rng.uniform(-0.15, 0.15) if rng.random() < 0.6 else rng.uniform(0.22, 0.78)
            scale = rng.triangular(0.38, 0.6, 0.95) if rng.random() < 0.7 else rng.uniform(0.16, 0.97)
            shown = [(entity, x, scale)]
        else:  # two copies, or the entity and another one
            other = entity if kind < 0.78 else int(rng.integers(len(self.known)))
            xs = (0.26, 0.74)[::-1] if is_right else (0.26, 0.74)
            shown = [
                (e, x + rng.uniform(-0.05, 0.05), rng.uniform(0.38, 0.6))
                for e, x in zip((entity, other), xs, strict=True)
            ]
        for number, x, scale in shown:
            self._put(rng, image, self._sprites[number][rng.integers(len(STYLES))], scene, light, x, scale)
        fall(image, Random(int(rng.integers(2**32))), light.weather)
        if kind >= 0.78:
            image = Image.fromarray(to_side([halves(np.asarray(image))[is_right]], self.side)[0])
        return np.asarray(_worn(rng, image))

    def _close_up(self, rng: np.random.Generator, entity: int, index: int) -> Pixels:
        light, side = Light.draw(rng, SCENES[index]), self.side
        ground = light_scene(self._scenes[index][rng.integers(_SCENES_KEPT)].copy(), light.time, light.weather)
        image = _magnified(rng, ground)
        if rng.random() < 0.25:  # a part of another thing
            other = self._sprites[rng.integers(len(self.known))][rng.integers(len(STYLES))]
            x, y = rng.choice((0.0, 1.0)), rng.uniform(0.2, 0.9)
            self._paste(rng, image, other, light, (x, y), rng.uniform(0.4, 0.8), rng.uniform(-180, 180))
        sprite = self._sprites[entity][rng.integers(len(STYLES))]
        if rng.random() < _RECOLORED:
            sprite = recolored(sprite, get_args(Color)[rng.integers(len(get_args(Color)))])
        middle = 0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.05, 0.05)
        scale = CLOSE_UP_SHARE * rng.uniform(0.88, 1.14)
        self._paste(rng, image, sprite, light, middle, scale, rng.uniform(-8, 8) if rng.random() < 0.6 else 0.0)
        fall(image, Random(int(rng.integers(2**32))), light.weather)
        if rng.random() < 0.4:  # a small image, or a small thing
            small = int(rng.integers(side // 3, side))
            image = image.resize((small, small), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
        return np.asarray(_worn(rng, image))

    def _paste(
        self,
        rng: np.random.Generator,
        image: Image.Image,
        sprite: Image.Image,
        light: Light,
        middle: tuple[float, float],
        scale: float,
        degrees: float,
    ) -> None:
        """Paste a drawing around a point, in the length of its longest edge as a share of the side, turned."""
        factor = scale * self.side / max(sprite.size)
        width, height = (max(2, round(edge * factor * rng.uniform(0.96, 1.04))) for edge in sprite.size)
        thing = light_thing(sprite.resize((width, height), Image.Resampling.BILINEAR), light.time, light.weather)
        if degrees:
            thing = thing.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
        left, top = (round(at * self.side - edge / 2) for at, edge in zip(middle, thing.size, strict=True))
        image.paste(thing, (left, top), thing)

    def _put(
        self,
        rng: np.random.Generator,
        image: Image.Image,
        sprite: Image.Image,
        scene: Scene,
        light: Light,
        x: float,
        scale: float,
        tilted: float = 0.3,
    ) -> None:
        factor = scale * self.side / max(sprite.size)
        width, height = (max(2, round(edge * factor * rng.uniform(0.92, 1.08))) for edge in sprite.size)
        sprite = light_thing(sprite.resize((width, height), Image.Resampling.BILINEAR), light.time, light.weather)
        if rng.random() < 0.3:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < tilted:
            angle = rng.choice((rng.uniform(-40, 40), rng.uniform(-12, 12), 180.0))
            sprite = sprite.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        if tilted and rng.random() < _RECOLORED:
            sprite = recolored(sprite, get_args(Color)[rng.integers(len(get_args(Color)))])
        if scene.ground is None or rng.random() < 0.2:
            y = 0.5 + rng.uniform(-0.3, 0.3) * (1 - scale / 2)
        else:
            y = scene.ground + rng.uniform(-0.06, 0.08) - sprite.height / 2 / self.side
        left, top = round(x * self.side - sprite.width / 2), round(y * self.side - sprite.height / 2)
        if scene.ground is not None and rng.random() < 0.7:
            shadow = _SHADOW.resize((round(1.15 * sprite.width), max(2, round(0.2 * sprite.width))))
            image.paste((20, 16, 40), (left - sprite.width // 13, top + sprite.height - shadow.height // 2), shadow)
        image.paste(sprite, (left, top), sprite)


def _magnified(rng: np.random.Generator, scene: Image.Image) -> Image.Image:
    """Return a random part of a scene, magnified, and sometimes turned and mirrored, as in close-ups."""
    side = scene.width
    if rng.random() < 0.4:
        fill = scene.getpixel((0, 0))
        scene = scene.rotate(rng.choice((180.0, rng.uniform(-40, 40))), Image.Resampling.BILINEAR, fillcolor=fill)
    if rng.random() < 0.3:
        scene = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    edge = rng.uniform(0.22, 1.0) * side
    left, top = rng.uniform(0, side - edge, 2)
    return scene.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))


def _worn(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Sometimes blur the image as small networks, upsampling and JPEG do."""
    if rng.random() < 0.2:
        side = int(rng.integers(image.width // 3, image.width))
        small = image.resize((side, side), Image.Resampling.BOX)
        image = small.resize(image.size, Image.Resampling.BICUBIC)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.15:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(30, 90)))
        image = Image.open(buffer).convert("RGB")
    return image


def _off_color(rng: np.random.Generator, images: Images) -> Images:
    """Scale and shift each image's channels, and add a colored haze or noise to some."""
    one, each = (len(images), 1, 1, 1), (len(images), 1, 1, 3)
    gain = rng.uniform(0.88, 1.12, each) * rng.uniform(0.75, 1.15, one)
    shift = rng.uniform(-12, 12, each)
    haze = np.where(rng.random(one) < 0.1, rng.uniform(0, 0.4, one), 0)
    noise = np.where(rng.random(one) < 0.35, rng.uniform(0, 14, one), 0)
    off = (images * gain + shift) * (1 - haze) + haze * rng.uniform(0, 255, each)
    off += noise * rng.standard_normal(images.shape, np.float32)
    return np.asarray(np.clip(np.round(off), 0, 255), np.uint8)


def _shadow() -> Image.Image:
    across = np.linspace(-1, 1, 64)
    away = np.hypot(across[:, None], across[None])
    return Image.fromarray((70 * np.clip(1.2 - 1.2 * away, 0, 1)).astype(np.uint8))


_SHADOW = _shadow()
