"""Registration: the position, size, mirroring and turn of a reference's object in an image.

The cut-out object is compared with the image in many sizes and turns, mirrored or not, at every position. OpenCV's
masked normalized cross-correlation of the colors scores each match; it is invariant to brightness and contrast. It uses
no network, so that it does not share a generator's errors. Of poses that match about equally the larger one wins,
because few pixels match somewhere by chance.

    image at 64 px ── every pose of a grid ──▶ the best few ── a finer grid around each, at 128 px ──▶ pose and score

An object that is its own mirror image, or looks alike when turned, has several equally right poses. Compare the
mirroring and turn only of objects whose `distinctness` is high.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_COARSE, _FINE = 64, 128
"""Sides in pixels of the resized image in the coarse and the fine search."""
_SIZES: Final = tuple(np.geomspace(0.155, 1.0, 12).tolist())
_ANGLES: Final = tuple(math.radians(degrees) for degrees in range(-180, 180, 15))
_FINER_SIZES: Final = (0.88, 0.94, 1.0, 1.07, 1.14)
"""Sizes of the finer grid, relative to a candidate's size."""
_FINER_ANGLES: Final = tuple(math.radians(degrees) for degrees in (-7, 0, 7))
_CANDIDATES: Final = 5
_BORDER: Final = 0.125
"""How far an object may reach out of the image, as a share of the image's side."""
_NEAR: Final = 0.06
"""How far from a candidate the position is refined, as a share of the side."""
_OPAQUE: Final = 0.6
"""Least alpha of a pixel that is compared."""
_LEAST_PIXELS: Final = 12
_CHANCE: Final = 2.0
"""The best correlation by chance, times the square root of the pixels at the fine side."""
_LEAST_SCORE: Final = 0.1
_UPRIGHT_SIZE: Final = 0.75
"""Size at which an object is compared with itself."""
_CUTOUT_SIDE: Final = 192
"""Longest edge of a cut-out in pixels; larger ones are shrunk first."""

_Colors = Float[np.ndarray, "h w 3"]
_Mask = Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class Pose:
    """The position of an object's bounding box in an image; lengths are shares of the image's side."""

    x: float
    """Distance of the box's center from the left edge."""
    y: float
    """Distance of the box's center from the top edge."""
    size: float
    """Longest edge of the box before it is turned."""
    mirrored: bool = False
    """Whether left and right are exchanged, before the turn."""
    angle: float = 0.0
    """Turn in radians, counter-clockwise as seen."""

    def turned_from(self, other: "Pose") -> float:
        """Return the angle between the two turns, from 0 to π."""
        return abs(math.remainder(self.angle - other.angle, 2 * math.pi))


@dataclass(frozen=True)
class Registration:
    """The best match of an object in an image."""

    pose: Pose
    score: float
    """The correlation of the colors, at most 1."""
    cutout: int = 0
    """Index of the cut-out that matches."""


@dataclass(frozen=True)
class _Template:
    colors: _Colors
    mask: _Mask
    chance: float
    """Approximate best correlation by chance; it is higher for fewer pixels."""


class Cutout:
    """A reference's object, cut out and trimmed to its bounding box."""

    def __init__(self, pixels: UInt8[np.ndarray, "h w 4"]) -> None:
        """Take the RGBA pixels."""
        cutout = pixels.astype(np.float32) / 255.0
        cutout[..., :3] *= cutout[..., 3:]
        self._premultiplied = _shrunk(cutout, _CUTOUT_SIDE)
        self._grid: list[tuple[Pose, _Template]] = []

    def grid(self) -> list[tuple[Pose, _Template]]:
        """Return the templates of the coarse search, whose poses have no position yet."""
        if not self._grid:
            poses = [
                Pose(0.0, 0.0, size, mirrored, angle)
                for size in _SIZES
                for mirrored in (False, True)
                for angle in _ANGLES
            ]
            self._grid = [(pose, self.template(pose, _COARSE)) for pose in poses]
        return self._grid

    def template(self, pose: Pose, side: int) -> _Template:
        """Return the object in a pose's size, mirroring and turn, for images of that side in pixels."""
        longest = max(1, round(pose.size * side))
        source = _shrunk(self._premultiplied, 2 * longest)
        height, width = source.shape[:2]
        scale = pose.size * side / max(height, width)
        cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
        across = -scale if pose.mirrored else scale
        linear = np.array([[across * cosine, scale * sine], [-across * sine, scale * cosine]])
        out_width, out_height = (math.ceil(edge) for edge in np.abs(linear) @ (width, height))
        middle = np.array([width - 1, height - 1]) / 2
        moved = np.array([out_width - 1, out_height - 1]) / 2 - linear @ middle
        warped = cv2.warpAffine(source, np.column_stack([linear, moved]), (out_width, out_height))
        alpha = warped[..., 3:]
        mask = (alpha > _OPAQUE).astype(np.float32)
        pixels = float(mask.sum()) * (_FINE / side) ** 2
        return _Template(
            warped[..., :3] / np.maximum(alpha, 1e-3) * mask, mask[..., 0], _CHANCE / math.sqrt(max(1.0, pixels))
        )


def register(cutouts: Sequence[Cutout], image: UInt8[np.ndarray, "side side 3"]) -> Registration | None:
    """Return the best match of any of the cut-outs; None if nothing matches, as in an image of one color.

    Args:
        cutouts: cut-outs of one object, such as its drawings in several styles.
        image: square RGB image of any side.
    """
    coarse, fine = _bordered(image, _COARSE), _bordered(image, _FINE)
    best, surplus = None, -math.inf
    for number, cutout in enumerate(cutouts):
        for candidate in _candidates(cutout, coarse):
            for pose, score, chance in _refined(cutout, fine, candidate):
                if score >= _LEAST_SCORE and score - chance > surplus:
                    best, surplus = Registration(pose, score, number), score - chance
    return best


def distinctness(cutout: Cutout) -> float:
    """Return how different an object is from itself when it is mirrored or turned by 45° or more.

    This is 1 less the best correlation with any such pose: 0 for a ball, whose mirroring and turn cannot be seen.
    """
    upright = cutout.template(Pose(0.5, 0.5, _UPRIGHT_SIZE), _COARSE)
    # The background is gray, so that it counts where the other pose extends beyond the object.
    ground = 0.5 * (1 - upright.mask[..., None]) + upright.colors
    edge = _COARSE // 2
    image = cv2.copyMakeBorder(ground, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(0.5, 0.5, 0.5))
    others = [
        Pose(0.5, 0.5, _UPRIGHT_SIZE, mirrored, angle)
        for mirrored in (False, True)
        for angle in _ANGLES
        if mirrored or abs(angle) > math.radians(44)
    ]
    return 1.0 - max(_best_position(image, cutout.template(pose, _COARSE))[0] for pose in others)


def _candidates(cutout: Cutout, image: _Colors) -> list[Pose]:
    """Return the best poses of the coarse grid that are not near a better one."""
    candidates = []
    for pose, template in cutout.grid():
        score, x, y = _best_position(image, template)
        candidates.append(
            (
                score - template.chance,
                Pose(_share(x, _COARSE), _share(y, _COARSE), pose.size, pose.mirrored, pose.angle),
            )
        )
    candidates.sort(key=lambda scored: -scored[0])
    poses: list[Pose] = []
    for _, pose in candidates:
        if len(poses) == _CANDIDATES:
            break
        if not any(_alike(pose, other) for other in poses):
            poses.append(pose)
    return poses


def _refined(cutout: Cutout, image: _Colors, near: Pose) -> Iterator[tuple[Pose, float, float]]:
    """Yield poses around a candidate, with their scores and the scores expected by chance."""
    border, margin = round(_BORDER * _FINE), round(_NEAR * _FINE)
    for relative in _FINER_SIZES:
        for angle in _FINER_ANGLES:
            pose = Pose(near.x, near.y, near.size * relative, near.mirrored, near.angle + angle)
            template = cutout.template(pose, _FINE)
            height, width = template.mask.shape
            left = max(0, round(near.x * _FINE + border - width / 2) - margin)
            top = max(0, round(near.y * _FINE + border - height / 2) - margin)
            window = image[top : top + height + 2 * margin, left : left + width + 2 * margin]
            score, x, y = _best_position(window, template)
            placed = replace(pose, x=_share(left + x, _FINE), y=_share(top + y, _FINE))
            yield placed, score, template.chance


def _best_position(image: _Colors, template: _Template) -> tuple[float, float, float]:
    """Return the best score over all positions, and the column and row of the template's center there."""
    height, width = template.mask.shape
    if height > image.shape[0] or width > image.shape[1] or template.mask.sum() < _LEAST_PIXELS:
        return -1.0, 0.0, 0.0
    mask = np.repeat(template.mask[..., None], 3, axis=2)
    scores = cv2.matchTemplate(image, template.colors, cv2.TM_CCOEFF_NORMED, mask=mask)
    # Windows or templates of a single color have no correlation: OpenCV returns infinity or noise for them.
    scores[~np.isfinite(scores) | (scores > 1.001)] = -1.0
    _, score, _, (column, row) = cv2.minMaxLoc(scores)
    return float(score), column + width / 2, row + height / 2


def _alike(a: Pose, b: Pose) -> bool:
    near = abs(a.x - b.x) < _NEAR and abs(a.y - b.y) < _NEAR and abs(math.log(a.size / b.size)) < 0.2
    return near and a.mirrored == b.mirrored and a.turned_from(b) < math.radians(17)


def _bordered(image: UInt8[np.ndarray, "side side 3"], side: int) -> _Colors:
    """Return the image resized to a side in pixels, in [0, 1], with a border that repeats its outermost pixels."""
    smaller = side <= image.shape[0]
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    border = round(_BORDER * side)
    larger = cv2.copyMakeBorder(resized, border, border, border, border, cv2.BORDER_REPLICATE)
    bordered: _Colors = larger.astype(np.float32) / 255.0
    return bordered


def _share(pixel: float, side: int) -> float:
    """Convert a pixel coordinate of a bordered image to a share of the image's side."""
    return (pixel - round(_BORDER * side)) / side


def _shrunk(pixels: Float[np.ndarray, "h w 4"], longest: int) -> Float[np.ndarray, "h w 4"]:
    """Return the pixels shrunk by averaging to a longest edge, if they are larger."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk: Float[np.ndarray, "h w 4"] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return shrunk
