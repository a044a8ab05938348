"""Registration of an asymmetric drawing in known poses."""

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from reimagen_evaluation.judges.judge import Pixels
from reimagen_evaluation.registration import CLOSE_UP_SHARE, Cutout, Pose, close_up, distinctness, register

SIDE = 160


def pistol() -> Image.Image:
    """Return an L of two colors with a spot, on a transparent background."""
    drawing = Image.new("RGBA", (160, 120))
    draw = ImageDraw.Draw(drawing)
    draw.rectangle((0, 0, 159, 49), fill=(200, 60, 40, 255))
    draw.rectangle((0, 50, 49, 119), fill=(40, 90, 190, 255))
    draw.ellipse((110, 10, 140, 40), fill=(250, 240, 200, 255))
    return drawing


def ball() -> Image.Image:
    drawing = Image.new("RGBA", (120, 120))
    draw = ImageDraw.Draw(drawing)
    draw.ellipse((0, 0, 119, 119), fill=(200, 60, 40, 255))
    draw.ellipse((30, 30, 89, 89), fill=(250, 240, 200, 255))
    return drawing


@pytest.fixture(scope="module")
def cutout() -> Cutout:
    return Cutout(np.asarray(pistol()))


@pytest.fixture(scope="module")
def ground() -> Image.Image:
    """Return clouds of many colors."""
    clouds = np.random.default_rng(1).integers(60, 200, (10, 10, 3), np.uint8)
    return Image.fromarray(clouds).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def composed(pose: Pose, ground: Image.Image) -> Image.Image:
    """Return the drawing in a pose, by Pillow's resizing and rotation."""
    drawing = pistol()
    if pose.mirrored:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    longest = pose.size * SIDE
    drawing = drawing.resize((round(longest), round(longest * 0.75)), Image.Resampling.LANCZOS)
    drawing = drawing.rotate(math.degrees(pose.angle), Image.Resampling.BICUBIC, expand=True)
    corner = round(pose.x * SIDE - drawing.width / 2), round(pose.y * SIDE - drawing.height / 2)
    image = ground.copy()
    image.paste(drawing, corner, drawing)
    return image


def assert_found(pose: Pose, image: Pixels, cutout: Cutout) -> None:
    found = register([cutout], image)
    assert found is not None
    assert found.score > 0.8
    assert abs(found.pose.x - pose.x) < 0.03
    assert abs(found.pose.y - pose.y) < 0.03
    assert abs(math.log(found.pose.size / pose.size)) < math.log(1.12)
    assert found.pose.mirrored == pose.mirrored
    assert found.pose.turned_from(pose) < math.radians(9)


@pytest.mark.parametrize(
    "pose",
    [
        Pose(0.8, 0.25, 0.18, mirrored=True),
        Pose(0.5, 0.5, 0.9),
        Pose(0.6, 0.4, 0.5, angle=math.pi),
        Pose(0.35, 0.35, 0.45, angle=math.radians(-26)),
    ],
)
def test_the_pose_is_found(pose: Pose, ground: Image.Image, cutout: Cutout) -> None:
    assert_found(pose, np.asarray(composed(pose, ground)), cutout)


def test_registration_ignores_blur_grain_and_dim_light(ground: Image.Image, cutout: Cutout) -> None:
    pose = Pose(0.35, 0.6, 0.4, mirrored=True, angle=math.radians(24))
    image = composed(pose, ground)
    assert_found(pose, np.asarray(image.filter(ImageFilter.GaussianBlur(1.5))), cutout)
    grain = np.random.default_rng(0).normal(0, 12, (SIDE, SIDE, 3))
    dim = 0.35 * np.asarray(image) + 20
    assert_found(pose, np.clip(dim + 0.35 * grain, 0, 255).astype(np.uint8), cutout)


def test_an_upright_search_does_not_find_a_turned_object(ground: Image.Image, cutout: Cutout) -> None:
    upright, turned = Pose(0.4, 0.6, 0.45), Pose(0.4, 0.6, 0.45, angle=math.pi)
    found = register([cutout], np.asarray(composed(upright, ground)), upright=True)
    assert found is not None
    assert found.score > 0.8
    wrong = register([cutout], np.asarray(composed(turned, ground)), upright=True)
    assert wrong is None or wrong.score < found.score - 0.15


@pytest.mark.parametrize(
    "pose",
    [
        Pose(0.75, 0.3, 0.25),
        Pose(0.5, 0.5, 0.7, mirrored=True),
        Pose(0.4, 0.6, 0.4, angle=math.radians(30)),
        Pose(0.6, 0.4, 0.4, mirrored=True, angle=math.radians(-145)),
    ],
)
def test_a_close_up_shows_the_object_upright(pose: Pose, ground: Image.Image) -> None:
    side = 96
    close = close_up(np.asarray(composed(pose, ground)), pose, side).astype(float)
    drawing = pistol().resize((round(CLOSE_UP_SHARE * side), round(0.75 * CLOSE_UP_SHARE * side)))
    left, top = (side - drawing.width) // 2, (side - drawing.height) // 2
    part = close[top : top + drawing.height, left : left + drawing.width]
    opaque = np.asarray(drawing)[..., 3] == 255
    difference = np.abs(part - np.asarray(drawing)[..., :3])[opaque]
    assert np.median(difference) < 8
    assert difference.mean() < 20


def test_the_cutout_in_the_image_is_distinguished_from_another(ground: Image.Image, cutout: Cutout) -> None:
    image = np.asarray(composed(Pose(0.4, 0.6, 0.5), ground))
    found = register([Cutout(np.asarray(ball())), cutout], image)
    assert found is not None
    assert found.cutout == 1
    absent = register([cutout], np.asarray(ground))
    assert absent is None or absent.score < found.score - 0.1


def test_an_image_of_one_color_matches_nothing(cutout: Cutout) -> None:
    assert register([cutout], np.full((SIDE, SIDE, 3), 90, np.uint8)) is None


def test_a_symmetric_object_has_no_distinct_mirroring(cutout: Cutout) -> None:
    assert distinctness(cutout) > 0.08
    assert distinctness(Cutout(np.asarray(ball()))) < 0.02
    # An arrow to the upper right is mirrored about a diagonal: mirrored and turned by a quarter it is the same.
    arrow = Image.new("RGBA", (120, 120))
    draw = ImageDraw.Draw(arrow)
    draw.polygon([(40, 0), (119, 0), (119, 79)], fill=(200, 60, 40, 255))
    draw.line((5, 114, 90, 29), fill=(40, 90, 190, 255), width=20)
    assert distinctness(Cutout(np.asarray(arrow))) < 0.05
