"""Cut-outs of synthetic images whose mask is known, and of photographs.

The photographs are those of scikit-image, reduced: coffee (CC0), gravel (CC0) and rocket (public domain).
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from reimagen_common.errors import InvalidArgument
from reimagen_generator.cut_out.cut_out import FILL, NO_BACKGROUND, NOTHING_FOUND, SIDE, cut_out
from reimagen_generator.cut_out.matting import matte_of

DATA = Path(__file__).parent / "data"
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def cup(side: int) -> Image.Image:
    """Return a shaded cup with a handle, RGBA, with a hole in the handle."""
    large = Image.new("RGBA", (2 * side, 2 * side))
    draw = ImageDraw.Draw(large)
    for step in range(side):
        shade = 90 + 120 * step // side
        draw.line([(side // 2 + step, side // 2), (side // 2 + step, 3 * side // 2)], (shade, 60, 40, 255), 2)
    draw.ellipse((side // 2, 3 * side // 8, 3 * side // 2, 5 * side // 8), (230, 190, 170, 255))
    box = (5 * side // 4, 3 * side // 4, 7 * side // 4, 5 * side // 4)
    draw.arc(box, 250, 110, (150, 60, 40, 255), side // 10)
    return large.resize((side, side), Image.Resampling.LANCZOS)


def noise(side: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(60, 200, (side, side, 3), np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.5))


def over(ground: Image.Image, sprite: Image.Image) -> tuple[Image.Image, Mask]:
    image = ground.resize(sprite.size)
    image.paste(sprite, (0, 0), sprite)
    return image, np.asarray(sprite.getchannel("A")) >= 128


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def box_of(mask: Mask) -> Mask:
    """Return the mask of the smallest box around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


@pytest.mark.parametrize("ground", ["noise", "gravel"])
def test_an_object_on_a_texture_is_found(ground: str) -> None:
    texture = noise(256, 1) if ground == "noise" else Image.open(DATA / "gravel.jpg").convert("RGB")
    image, mask = over(texture, cup(256))
    assert iou(matte_of(np.asarray(image), None) >= 0.5, mask) > 0.85
    # The bar is not met by the whole image, or by a box around the object.
    assert iou(box_of(mask), mask) < 0.85


@pytest.mark.parametrize("color", ["white", "black", (240, 225, 230), (40, 90, 60)])
def test_a_plain_ground_is_removed_to_the_pixel(color: Any) -> None:
    image, mask = over(Image.new("RGB", (200, 200), color), cup(200))
    # The ground inside the handle is not connected to the border, so it counts as a part of the object.
    assert iou(matte_of(np.asarray(image), None) >= 0.5, ndimage.binary_fill_holes(mask)) > 0.97


def test_the_ground_inside_an_object_stays() -> None:
    image = Image.new("RGB", (100, 100), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 80, 80), "red")
    draw.ellipse((40, 40, 60, 60), "white")
    assert matte_of(np.asarray(image), None)[50, 50] == 1


def test_an_images_own_transparency_counts() -> None:
    sprite = cup(128)
    hidden = Image.merge("RGBA", (*noise(128, 2).split(), sprite.getchannel("A")))
    matte = matte_of(np.asarray(hidden.convert("RGB")), np.asarray(sprite.getchannel("A")))
    np.testing.assert_array_equal(matte, (np.asarray(sprite.getchannel("A")) / 255).astype(np.float32))
    assert not cut_out(png(hidden), field="image").warning


def test_the_object_is_centered_on_a_ground_that_differs_from_it() -> None:
    sprite = Image.new("RGBA", (300, 200))
    ImageDraw.Draw(sprite).rectangle((10, 20, 109, 69), (250, 250, 250, 255))
    with Image.open(io.BytesIO(cut_out(png(sprite), field="image").image)) as opened:
        image = np.asarray(opened.convert("RGB")).astype(int)
    assert image.shape == (SIDE, SIDE, 3)
    ground = image[0, 0]
    assert np.abs(ground - 250).max() > 100, "a white object needs a darker ground"
    inside = np.abs(image - ground).max(axis=2) > 50
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    width, height = FILL * SIDE, FILL * SIDE / 2
    assert (columns[0], columns[-1] + 1) == pytest.approx(((SIDE - width) / 2, (SIDE + width) / 2), abs=1)
    assert (rows[0], rows[-1] + 1) == pytest.approx(((SIDE - height) / 2, (SIDE + height) / 2), abs=1)


@pytest.mark.parametrize(
    ("name", "box", "bar"), [("coffee", (42, 11, 256, 208), 0.9), ("rocket", (154, 64, 171, 203), 0.6)]
)
def test_a_photographs_object_is_found(name: str, box: tuple[int, int, int, int], bar: float) -> None:
    """The boxes were read off the photographs by eye. The foot of the rocket is lost in lights."""
    with Image.open(DATA / f"{name}.jpg") as opened:
        image = np.asarray(opened.convert("RGB"))
    found, expected = box_of(matte_of(image, None) >= 0.5), np.zeros(image.shape[:2], bool)
    left, top, right, bottom = box
    expected[top:bottom, left:right] = True
    assert iou(found, expected) > bar


@pytest.mark.parametrize(
    ("image", "warning"),
    [
        (Image.new("RGB", (64, 48), "teal"), NOTHING_FOUND),
        (Image.open(DATA / "gravel.jpg").convert("RGB"), NOTHING_FOUND),
        (Image.linear_gradient("L").resize((64, 64)).crop((0, 0, 64, 2)).resize((64, 64)), NOTHING_FOUND),
        (over(Image.new("RGB", (400, 400), "white"), Image.new("RGBA", (400, 400), "red"))[0], NOTHING_FOUND),
    ],
    ids=["one color", "a texture alone", "a blend", "one color over another"],
)
def test_nothing_to_cut_out_is_reported(image: Image.Image, warning: str) -> None:
    cut = cut_out(png(image.convert("RGB")), field="image")
    assert (cut.image, cut.warning) == (b"", warning)


def test_an_image_without_background_is_reported() -> None:
    image = Image.new("RGB", (100, 100), "white")
    image.paste(noise(98, 3), (1, 1))
    cut = cut_out(png(image), field="image")
    assert (cut.image, cut.warning) == (b"", NO_BACKGROUND)


def test_an_unreadable_image_is_rejected_by_the_name_of_its_field() -> None:
    with pytest.raises(InvalidArgument, match=r"references\.1\.image: "):
        cut_out(b"GIF89a", field="references.1.image")


def test_cut_outs_repeat_to_the_byte() -> None:
    photograph = (DATA / "coffee.jpg").read_bytes()
    assert cut_out(photograph, field="image") == cut_out(photograph, field="image")
