"""Registration: the position, size, mirroring and turn of a reference's object in an image.

The cut-out object is compared with the image in many sizes and turns, mirrored or not, at every position. The masked
normalized cross-correlation of the colors scores each match; it is invariant to brightness and contrast. It uses no
network, so that it does not share a generator's errors. Of poses that match about equally the larger one wins, because
few pixels match somewhere by chance.

    every pose of a grid, at 64 or 96 px ── the best of each size ──▶ a finer grid around each ── the best few ──▶
    the finest grid around each, at 128 or 256 px ──▶ pose and score

A pose between those of the first grid matches badly when the drawing has fine detail, and small drawings match
somewhere by chance: the right pose is only the best one after the second grid. This is why many of each size are kept.

An object that is its own mirror image, or looks alike when turned, has several equally right poses. Compare the
mirroring and turn only of objects whose `distinctness` is high.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy import fft

_COARSE, _FINE = 64, 128
"""Sides in pixels of the resized image in the coarse and the fine search."""
_SMALL: Final = 0.31
"""Size up to which objects are searched in larger images."""
_COARSE_SMALL, _FINE_SMALL = 96, 256
"""The sides in the search for these objects."""
_SIZES: Final = (*np.geomspace(0.145, 0.3, 9).tolist(), *np.geomspace(0.325, 1.0, 14).tolist())
_LEAST_SIZE: Final = 0.13
_FINER_SIZES: Final = (0.96, 1.0, 1.04)
"""Sizes of the finer grid, relative to a candidate's size."""
_FINER_ANGLES: Final = tuple(math.radians(degrees) for degrees in (-4, 0, 4))
_FINEST_SIZES: Final = (0.92, 0.96, 1.0, 1.04, 1.08)
_FINEST_ANGLES: Final = tuple(math.radians(degrees) for degrees in (-4, 0, 4))
_PLACES: Final = 2
"""Number of positions kept of each size, mirroring and turn of the first grid."""
_KEPT: Final = 5
"""Number of poses of each size around which the finer grid is searched."""
_CANDIDATES: Final = 6
"""Number of poses around which the finest grid is searched."""
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
_LEAST_CONTRAST: Final = 1e-4
"""Least variance of the colors, of 1, of a window that is correlated."""
_UPRIGHT: Final = math.radians(20)
"""Greatest turn of the first grid in a search for upright objects."""
_UPRIGHT_SIZE: Final = 0.75
"""Size at which an object is compared with itself."""
_CUTOUT_SIDE: Final = 192
"""Longest edge of a cut-out in pixels; larger ones are shrunk first."""

CLOSE_UP_SHARE: Final = 0.84
"""Longest edge of the object in a close-up, as a share of its side."""
_SUPERSAMPLED: Final = 4
"""Factor on the side at which a close-up is warped before it is averaged."""

_Colors = Float[np.ndarray, "h w 3"]
_Mask = Float[np.ndarray, "h w"]
_Scores = Float[np.ndarray, "rows columns"]


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


@dataclass(frozen=True)
class _Match:
    """A pose with its score, and by how much that exceeds the score expected by chance."""

    pose: Pose
    score: float
    surplus: float
    cutout: int = 0


class Cutout:
    """A reference's object, cut out and trimmed to its bounding box."""

    def __init__(self, pixels: UInt8[np.ndarray, "h w 4"]) -> None:
        """Take the RGBA pixels."""
        cutout = pixels.astype(np.float32) / 255.0
        cutout[..., :3] *= cutout[..., 3:]
        self._premultiplied = _shrunk(cutout, _CUTOUT_SIDE)
        self._shrunk: dict[int, Float[np.ndarray, "h w 4"]] = {}
        self._grid: list[list[tuple[Pose, _Template]]] = []

    def grid(self) -> list[list[tuple[Pose, _Template]]]:
        """Return the templates of the coarse search by size; their poses have no position yet."""
        if not self._grid:
            self._grid = [
                [
                    (pose, self.template(pose, _coarse_side(size)))
                    for mirrored in (False, True)
                    for angle in _angles(size)
                    for pose in [Pose(0.0, 0.0, size, mirrored, angle)]
                ]
                for size in _SIZES
            ]
        return self._grid

    def template(self, pose: Pose, side: int) -> _Template:
        """Return the object in a pose's size, mirroring and turn, for images of that side in pixels."""
        longest = max(1, round(pose.size * side))
        if longest not in self._shrunk:
            self._shrunk[longest] = _shrunk(self._premultiplied, 2 * longest)
        source = self._shrunk[longest]
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


def register(
    cutouts: Sequence[Cutout], image: UInt8[np.ndarray, "side side 3"], *, upright: bool = False
) -> Registration | None:
    """Return the best match of any of the cut-outs; None if nothing matches, as in an image of one color.

    Args:
        cutouts: cut-outs of one object, such as its drawings in several styles.
        image: square RGB image of any side.
        upright: whether to search only poses that are hardly turned.
    """
    pyramid = {side: _bordered(image, side) for side in (_COARSE, _COARSE_SMALL, _FINE, _FINE_SMALL)}
    best: _Match | None = None
    for number, cutout in enumerate(cutouts):
        kept = [match for of_size in cutout.grid() for match in _best(_matches(of_size, pyramid, upright), _KEPT)]
        finer = [
            _refined(cutout, pyramid, _coarse_side(match.pose.size), match.pose, _FINER_SIZES, _FINER_ANGLES)
            for match in kept
        ]
        for candidate in _best(finer, _CANDIDATES):
            side = _FINE_SMALL if candidate.pose.size < _SMALL else _FINE
            match = _refined(cutout, pyramid, side, candidate.pose, _FINEST_SIZES, _FINEST_ANGLES)
            if match.score >= _LEAST_SCORE and (best is None or match.surplus > best.surplus):
                best = replace(match, cutout=number)
    return None if best is None else Registration(best.pose, best.score, best.cutout)


def close_up(image: UInt8[np.ndarray, "h w 3"], pose: Pose, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Return a square image of that side with the object of a pose in its middle, upright and not mirrored.

    Args:
        image: square RGB image of any side.
        pose: pose of the object in the image.
        side: side of the close-up in pixels. The object's longest edge takes `CLOSE_UP_SHARE` of it.
    """
    large = side * _SUPERSAMPLED
    scale = pose.size * image.shape[0] / (CLOSE_UP_SHARE * large)
    across = -scale if pose.mirrored else scale
    cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
    linear = np.array([[across * cosine, scale * sine], [-across * sine, scale * cosine]])
    middle = np.array([pose.x, pose.y]) * image.shape[0] - 0.5
    moved = middle - linear @ np.full(2, (large - 1) / 2)
    warped = cv2.warpAffine(
        image,
        np.column_stack([linear, moved]),
        (large, large),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    close: UInt8[np.ndarray, "side side 3"] = cv2.resize(warped, (side, side), interpolation=cv2.INTER_AREA)
    return close


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
        for angle in _angles(_UPRIGHT_SIZE)[::2]
        if mirrored or abs(angle) > math.radians(44)
    ]
    return 1.0 - max(score for pose in others for score, _, _ in _best_position(image, cutout.template(pose, _COARSE)))


def _coarse_side(size: float) -> int:
    """Return the side in pixels of the image in which objects of a size are searched first."""
    return _COARSE_SMALL if size < _SMALL else _COARSE


def _angles(size: float) -> Sequence[float]:
    """Return the turns of the first grid: large objects need more, because their edges move further."""
    count = 36 if size < _SMALL else 48
    return [2 * math.pi * number / count - math.pi for number in range(count)]


def _matches(
    of_size: Sequence[tuple[Pose, _Template]], pyramid: Mapping[int, _Colors], upright: bool
) -> Iterator[_Match]:
    """Yield the best matches of each mirroring and turn of a size."""
    chosen = [(pose, template) for pose, template in of_size if not upright or abs(pose.angle) < _UPRIGHT]
    side = _coarse_side(chosen[0][0].size)
    maps = _correlations(pyramid[side], [template for _, template in chosen])
    for (pose, template), scores in zip(chosen, maps, strict=True):
        for score, x, y in _peaks(scores, template, _PLACES):
            placed = replace(pose, x=_share(x, side), y=_share(y, side))
            yield _Match(placed, score, score - template.chance)


def _best(matches: Iterable[_Match], count: int) -> list[_Match]:
    """Return the best matches that are not near a better one."""
    chosen: list[_Match] = []
    for match in sorted(matches, key=lambda match: -match.surplus):
        if len(chosen) == count:
            break
        if not any(_alike(match.pose, other.pose) for other in chosen):
            chosen.append(match)
    return chosen


def _refined(
    cutout: Cutout,
    pyramid: Mapping[int, _Colors],
    side: int,
    near: Pose,
    sizes: Sequence[float],
    angles: Sequence[float],
) -> _Match:
    """Return the best match around a pose, in these sizes relative to its own and these turns beyond its own."""
    image, border, margin = pyramid[side], round(_BORDER * side), max(2, round(_NEAR * side / 2))
    best = _Match(near, -1.0, -math.inf)
    for relative in sizes:
        for angle in angles:
            pose = replace(near, size=max(_LEAST_SIZE, near.size * relative), angle=near.angle + angle)
            template = cutout.template(pose, side)
            height, width = template.mask.shape
            left = max(0, round(near.x * side + border - width / 2) - margin)
            top = max(0, round(near.y * side + border - height / 2) - margin)
            window = image[top : top + height + 2 * margin, left : left + width + 2 * margin]
            for score, x, y in _best_position(window, template):
                if score - template.chance > best.surplus:
                    placed = replace(pose, x=_share(left + x, side), y=_share(top + y, side))
                    best = _Match(placed, score, score - template.chance)
    return best


def _best_position(image: _Colors, template: _Template) -> Iterator[tuple[float, float, float]]:
    """Yield the best score over all positions, and the column and row of the template's center there."""
    height, width = template.mask.shape
    if height > image.shape[0] or width > image.shape[1] or template.mask.sum() < _LEAST_PIXELS:
        return
    mask = np.repeat(template.mask[..., None], 3, axis=2)
    scores = cv2.matchTemplate(image, template.colors, cv2.TM_CCOEFF_NORMED, mask=mask)
    # Windows or templates of a single color have no correlation: OpenCV returns infinity or noise for them.
    scores[~np.isfinite(scores) | (scores > 1.001)] = -1.0
    yield from _peaks(scores, template, 1)


def _peaks(scores: _Scores, template: _Template, count: int) -> Iterator[tuple[float, float, float]]:
    """Yield the highest scores of a map, and the column and row of the template's center at each."""
    height, width = template.mask.shape
    around = max(1, min(height, width) // 3)
    for _ in range(count if scores.size else 0):
        _, score, _, (column, row) = cv2.minMaxLoc(scores)
        if score <= -1.0:
            return
        yield float(score), column + width / 2, row + height / 2
        scores[max(0, row - around) : row + around + 1, max(0, column - around) : column + around + 1] = -1.0


def _correlations(image: _Colors, templates: Sequence[_Template]) -> Iterator[_Scores]:
    """Yield for each template the masked normalized cross-correlation at all positions, by Fourier transforms.

    This is OpenCV's `TM_CCOEFF_NORMED`, but the image is transformed once for all templates.
    """
    extent = image.shape[:2]
    planes = image.transpose(2, 0, 1)
    colors, squares = fft.rfft2(planes), fft.rfft2((planes**2).sum(axis=0))
    for template in templates:
        height, width = template.mask.shape
        pixels = float(template.mask.sum())
        if height > extent[0] or width > extent[1] or pixels < _LEAST_PIXELS:
            yield np.zeros((0, 0), np.float32)
            continue
        mean = template.colors.sum(axis=(0, 1)) / pixels
        centered = ((template.colors - mean) * template.mask[..., None]).astype(np.float32)
        spread = float((centered**2).sum())
        of_mask = np.conj(fft.rfft2(template.mask, extent))
        of_colors = np.conj(fft.rfft2(centered.transpose(2, 0, 1), extent))
        products = np.stack([(colors * of_colors).sum(axis=0), squares * of_mask, *(colors * of_mask)])
        rows, columns = extent[0] - height + 1, extent[1] - width + 1
        together, squared, *sums = fft.irfft2(products, extent)[:, :rows, :columns]
        variance = (squared - sum(plane**2 for plane in sums) / pixels) * spread
        flat = variance < (_LEAST_CONTRAST * pixels) ** 2
        yield np.where(flat, -1.0, together / np.sqrt(np.where(flat, 1.0, variance))).astype(np.float32)


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
