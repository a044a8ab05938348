"""Where a thing goes in an image, and its drawing warped to there."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

PAD = 2
"""Transparent pixels around a drawing, so that its outline is smooth when it is warped."""
_SUPERSAMPLED = 2
"""A drawing is warped at this many times the image's resolution and then averaged."""
_VISIBLE = 32
"""Alpha, of 255, from which on a pixel counts as part of the outline."""


@dataclass(frozen=True)
class Placement:
    """How a drawing's bounding box is moved into an image; lengths are shares of the image's side."""

    x: float
    """Where the box's center goes, to the right."""
    y: float
    """The same, down."""
    size: float
    """How long the box's longest edge becomes, before it is turned."""
    mirrored: bool = False
    """Whether the drawing is mirrored, left to right, first."""
    angle: float = 0.0
    """By how much it is turned then, in radians, counter-clockwise as seen."""


@dataclass(frozen=True)
class Extent:
    """How far a thing reaches from the center of its box."""

    left: float
    right: float
    up: float
    down: float

    @property
    def width(self) -> float:
        """Its whole width."""
        return self.left + self.right

    @property
    def height(self) -> float:
        """Its whole height."""
        return self.up + self.down

    def scaled(self, factor: float) -> "Extent":
        """Return the same, that many times as large."""
        return Extent(self.left * factor, self.right * factor, self.up * factor, self.down * factor)


@dataclass(frozen=True)
class Drawing:
    """A drawing that was trimmed to its bounding box and then padded by `PAD` pixels."""

    sprite: Image.Image
    """RGBA."""

    @classmethod
    def padded(cls, trimmed: Image.Image) -> "Drawing":
        """Pad a trimmed drawing."""
        sprite = Image.new("RGBA", (trimmed.width + 2 * PAD, trimmed.height + 2 * PAD))
        sprite.paste(trimmed, (PAD, PAD))
        return cls(sprite)

    @property
    def trimmed(self) -> Image.Image:
        """The drawing without the padding."""
        return self.sprite.crop((PAD, PAD, self.sprite.width - PAD, self.sprite.height - PAD))

    @property
    def width(self) -> int:
        """Of its bounding box, in pixels."""
        return self.sprite.width - 2 * PAD

    @property
    def height(self) -> int:
        """Of its bounding box, in pixels."""
        return self.sprite.height - 2 * PAD

    @cached_property
    def _outline(self) -> np.ndarray:
        """The visible pixels of a small copy, as x and y from the center in units of the longest edge."""
        alpha = self.trimmed.getchannel("A")
        alpha.thumbnail((40, 40), Image.Resampling.BOX)
        rows, columns = np.nonzero(np.asarray(alpha) >= _VISIBLE)
        points = np.stack([columns + 0.5 - alpha.width / 2, rows + 0.5 - alpha.height / 2])
        return points / max(alpha.size) if points.size else np.zeros((2, 1))

    def extent(self, *, mirrored: bool, angle: float) -> Extent:
        """Return how far the thing reaches once it is mirrored and turned, for a longest edge of 1."""
        across, down = self._outline
        if mirrored:
            across = -across
        x = math.cos(angle) * across + math.sin(angle) * down
        y = -math.sin(angle) * across + math.cos(angle) * down
        half = 0.5 / 40
        return Extent(half - x.min(), half + x.max(), half - y.min(), half + y.max())


def warped(drawing: Drawing, placement: Placement, side: int) -> tuple[Image.Image, int, int]:
    """Warp a drawing to its place in an image of that side in pixels.

    Returns:
        The part of the image that it takes, RGBA, and the pixel column and row of that part's upper left corner.
    """
    scale = placement.size * side / max(drawing.width, drawing.height)
    cos, sin = math.cos(placement.angle), math.sin(placement.angle)
    half_width = (abs(cos) * drawing.sprite.width + abs(sin) * drawing.sprite.height) * scale / 2
    half_height = (abs(sin) * drawing.sprite.width + abs(cos) * drawing.sprite.height) * scale / 2
    center_x, center_y = placement.x * side, placement.y * side
    left, top = math.floor(center_x - half_width), math.floor(center_y - half_height)
    width, height = math.ceil(center_x + half_width) - left, math.ceil(center_y + half_height) - top
    # Shrunk first by averaging, because the warp below samples a small neighborhood of each point only.
    reduced = max(1, math.floor(1 / (scale * _SUPERSAMPLED) + 1e-6))
    source = drawing.sprite.reduce(reduced) if reduced > 1 else drawing.sprite
    across = (-1 if placement.mirrored else 1) / (scale * reduced * _SUPERSAMPLED)
    along = 1 / (scale * reduced * _SUPERSAMPLED)
    x0, y0 = (center_x - left) * _SUPERSAMPLED, (center_y - top) * _SUPERSAMPLED
    u0, v0 = drawing.sprite.width / 2 / reduced, drawing.sprite.height / 2 / reduced
    inverse = (
        across * cos,
        -across * sin,
        u0 - across * (cos * x0 - sin * y0),
        along * sin,
        along * cos,
        v0 - along * (sin * x0 + cos * y0),
    )
    large = source.transform(
        (width * _SUPERSAMPLED, height * _SUPERSAMPLED),
        Image.Transform.AFFINE,
        inverse,
        Image.Resampling.BICUBIC,
    )
    return large.reduce(_SUPERSAMPLED), left, top
