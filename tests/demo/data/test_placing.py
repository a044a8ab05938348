import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from reimagen_demo.data.placing import Drawing, Placement, warped


def arrow() -> Drawing:
    """Return an arrow to the right with a flag above its tail, which has no symmetry."""
    sprite = Image.new("RGBA", (120, 60))
    draw = ImageDraw.Draw(sprite)
    draw.rectangle((0, 26, 90, 40), fill=(200, 30, 30, 255))
    draw.polygon([(80, 8), (119, 33), (80, 59)], fill=(200, 30, 30, 255))
    draw.rectangle((0, 0, 22, 26), fill=(30, 30, 200, 255))
    return Drawing.padded(sprite.crop(sprite.getbbox()))


def canvas(placement: Placement, side: int = 200) -> np.ndarray:
    layer, left, top = warped(arrow(), placement, side)
    image = Image.new("RGBA", (side, side))
    image.paste(layer, (left, top))
    return np.asarray(image).astype(float)


def center_of(image: np.ndarray, *, blue: bool) -> np.ndarray:
    """Return the mean position of the flag or of the arrow, as shares of the side."""
    solid = image[..., 3] > 128
    where = solid & ((image[..., 2] > image[..., 0]) == blue)
    rows, columns = np.nonzero(where)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / len(image)


@pytest.mark.parametrize(
    ("mirrored", "angle", "flag"),
    [
        (False, 0.0, (-1, -1)),
        (True, 0.0, (1, -1)),
        (False, math.pi, (1, 1)),
        (False, math.pi / 2, (-1, 1)),  # counterclockwise: the left becomes the bottom
        (True, math.pi / 2, (-1, -1)),
    ],
)
def test_a_drawing_is_mirrored_and_then_rotated_counterclockwise(
    mirrored: bool, angle: float, flag: tuple[int, int]
) -> None:
    image = canvas(Placement(0.4, 0.6, 0.5, mirrored, angle))
    away = center_of(image, blue=True) - (0.4, 0.6)
    assert tuple(np.sign(away)) == flag


def test_the_box_has_the_placements_center_and_longest_edge() -> None:
    for x, y, size in ((0.5, 0.5, 0.6), (0.303, 0.417, 0.25), (0.71, 0.29, 0.105)):
        alpha = canvas(Placement(x, y, size))[..., 3] / 255
        columns, rows = alpha.max(axis=0), alpha.max(axis=1)
        assert columns.sum() / 200 == pytest.approx(size, abs=0.004)
        assert (columns @ (np.arange(200) + 0.5)) / columns.sum() / 200 == pytest.approx(x, abs=0.004)
        assert (rows @ (np.arange(200) + 0.5)) / rows.sum() / 200 == pytest.approx(y, abs=0.004)


@pytest.mark.parametrize("angle", [0.0, 0.6, math.pi])
@pytest.mark.parametrize("mirrored", [False, True])
def test_an_extent_is_the_bounding_box_of_the_warped_drawing(angle: float, mirrored: bool) -> None:
    alpha = canvas(Placement(0.5, 0.5, 0.6, mirrored, angle))[..., 3] > 64
    rows, columns = np.nonzero(alpha)
    extent = arrow().extent(mirrored=mirrored, angle=angle).scaled(0.6)
    seen = np.array([100 - columns.min(), columns.max() + 1 - 100, 100 - rows.min(), rows.max() + 1 - 100]) / 200
    assert np.abs(seen - [extent.left, extent.right, extent.up, extent.down]).max() < 0.02


def test_a_warped_drawing_has_no_dark_fringe() -> None:
    image = canvas(Placement(0.5, 0.5, 0.6, angle=0.5))
    edge = (image[..., 3] > 20) & (image[..., 3] < 235)
    # Both colors, and so every mixture of them, have this sum.
    assert image[..., :3].sum(axis=-1)[edge].min() > 220
