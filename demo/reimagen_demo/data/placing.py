"""The placement of a thing in an image, and the warping of its drawing to that placement."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

PAD = 2
"""Width in pixels of the transparent padding around a drawing, so that its outline is smooth when it is warped."""
_SUPERSAMPLED = 2
"""Factor on the image's resolution at which a drawing is warped before it is averaged."""
_VISIBLE = 32
"""Least alpha, of 255, of a pixel that counts as part of the outline."""


@dataclass(frozen=True)
class Placement:
    """The movement of a drawing's bounding box into an image; lengths are shares of the image's side."""

    x: float
    """Distance of the box's center from the left edge."""
    y: float
    """Distance of the box's center from the top edge."""
    size: float
    """Length of the box's longest edge, before it is turned."""
    mirrored: bool = False
    """Whether the drawing is mirrored, left to right, before the turn."""
    angle: float = 0.0
    """Turn in radians, counter-clockwise as seen."""


@dataclass(frozen=True)
class Extent:
    """The distances that a thing extends from the center of its box."""

    left: float
    right: float
    up: float
    down: float

    @property
    def width(self) -> float:
        """The whole width."""
        return self.left + self.right

    @property
    def height(self) -> float:
        """The whole height."""
        return self.up + self.down

    def scaled(self, factor: float) -> "Extent":
        """Return the extent multiplied by a factor."""
        return Extent(self.left * factor, self.right * factor, self.up * factor, self.down * factor)


@dataclass(frozen=True)
class Drawing:
    """A drawing that was trimmed to its bounding box and then padded by `PAD` pixels."""

    sprite: Image.Image
    """The padded drawing, RGBA."""

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
        """The width of the bounding box in pixels."""
        return self.sprite.width - 2 * PAD

    @property
    def height(self) -> int:
        """The height of the bounding box in pixels."""
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
        """Return the extent of the thing after it is mirrored and turned, for a longest edge of 1."""
        across, down = self._outline
        if mirrored:
            across = -across
        x = math.cos(angle) * across + math.sin(angle) * down
        y = -math.sin(angle) * across + math.cos(angle) * down
        half = 0.5 / 40
        return Extent(half - x.min(), half + x.max(), half - y.min(), half + y.max())


def warped(drawing: Drawing, placement: Placement, side: int) -> tuple[Image.Image, int, int]:
    """Warp a drawing to its placement in an image of that side in pixels.

    Returns:
        The part of the image that the drawing takes, RGBA, and the column and row of that part's upper left corner.
    """
    scale = placement.size * side / max(drawing.width, drawing.height)
    cos, sin = math.cos(placement.angle), math.sin(placement.angle)
    half_width = (abs(cos) * drawing.sprite.width + abs(sin) * drawing.sprite.height) * scale / 2
    half_height = (abs(sin) * drawing.sprite.width + abs(cos) * drawing.sprite.height) * scale / 2
    center_x, center_y = placement.x * side, placement.y * side
    left, top = math.floor(center_x - half_width), math.floor(center_y - half_height)
    width, height = math.ceil(center_x + half_width) - left, math.ceil(center_y + half_height) - top
    # Shrunk by averaging first, because the warp below samples only a small neighborhood of each point.
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
