"""The backgrounds of references: plain colors, blends, textures, and parts of scenes."""

import colorsys
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image

from reimagen_demo.data.composer import Images
from reimagen_demo.scenes.registry import SCENES, by_phrase

PLAIN, BLENDS, TEXTURES, SCENES_SHARE = 40, 20, 18, 22
"""Relative frequency of each kind of background."""
LIGHTNESS = {"pale": 40, "middle": 20, "dark": 40}
"""Relative frequency of each lightness of a background's color."""
_INSTANCES = 6
"""Number of instances of each scene that parts are cut from."""
_SCENE_SIDE = 256


class Grounds:
    """A source of random backgrounds of one side in pixels."""

    def __init__(self, images: Images, side: int) -> None:
        self._images = images
        self._side = side
        self._scene = lru_cache(None)(self._draw_scene)

    def draw(self, rng: Random) -> Image.Image:
        """Return a background, RGB, that the caller may draw on."""
        kind = rng.choices((self._plain, self._blend, self._texture, self._part_of_a_scene), _KINDS)[0]
        return kind(rng)

    def _plain(self, rng: Random) -> Image.Image:
        return Image.new("RGB", (self._side, self._side), _color(rng))

    def _blend(self, rng: Random) -> Image.Image:
        """Return four colors, one in each corner, or two from edge to edge."""
        corners = np.array([[_color(rng), _color(rng)], [_color(rng), _color(rng)]], np.uint8)
        if rng.random() < 0.6:
            axis = rng.randrange(2)
            corners = np.repeat(corners.take([0], axis=axis), 2, axis=axis)
        box = (0.5, 0.5, 1.5, 1.5)
        return Image.fromarray(corners).resize((self._side, self._side), Image.Resampling.BILINEAR, box=box)

    def _texture(self, rng: Random) -> Image.Image:
        """Return two colors in stripes, checks, dots or clouds."""
        side = self._side
        one, other = _color(rng), _color(rng)
        down, across = np.mgrid[0:side, 0:side] / side
        turn, period = rng.uniform(0, np.pi), rng.uniform(0.04, 0.3)
        along = (np.cos(turn) * across + np.sin(turn) * down) / period
        sideways = (-np.sin(turn) * across + np.cos(turn) * down) / period
        kind = rng.randrange(4)
        if kind == 0:
            share = np.clip(0.5 + 2 * np.sin(2 * np.pi * along), 0, 1)
        elif kind == 1:
            share = np.clip(0.5 + 4 * np.sin(np.pi * along) * np.sin(np.pi * sideways), 0, 1)
        elif kind == 2:
            share = np.clip(4 * (0.32 - np.hypot(along % 1 - 0.5, sideways % 1 - 0.5)) + 0.5, 0, 1)
        else:
            noise = np.random.default_rng(rng.getrandbits(32))
            share = sum(_noise(noise, cells, side) / 2**octave for octave, cells in enumerate((4, 9, 20))) / 1.75
        mask = Image.fromarray((255 * share).astype(np.uint8))
        image = Image.new("RGB", (side, side), one)
        image.paste(other, (0, 0), mask)
        return image

    def _part_of_a_scene(self, rng: Random) -> Image.Image:
        scene = self._scene(rng.choice(_PHRASES), rng.randrange(_INSTANCES))
        edge = rng.uniform(0.4, 1) * _SCENE_SIDE
        left, top = (rng.uniform(0, _SCENE_SIDE - edge) for _ in range(2))
        part = scene.resize(
            (self._side, self._side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge)
        )
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part

    def _draw_scene(self, phrase: str, number: int) -> Image.Image:
        return self._images.scene(by_phrase()[phrase], Random(f"ground/{phrase}/{number}"), _SCENE_SIDE)


_KINDS = (PLAIN, BLENDS, TEXTURES, SCENES_SHARE)
_PHRASES = tuple(scene.phrase for scene in SCENES)


def _color(rng: Random) -> tuple[int, int, int]:
    """Return a pale, middle or dark color of random saturation."""
    lightness = rng.choices(tuple(LIGHTNESS), tuple(LIGHTNESS.values()))[0]
    low, high = {"pale": (0.84, 1.0), "middle": (0.4, 0.84), "dark": (0.02, 0.4)}[lightness]
    hue, light = rng.random(), rng.uniform(low, high)
    saturation = rng.uniform(0, 0.5) if lightness == "pale" else rng.choice((rng.uniform(0, 0.3), rng.uniform(0.5, 1)))
    red, green, blue = colorsys.hls_to_rgb(hue, light, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Return smooth noise from 0 to 1."""
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 255
