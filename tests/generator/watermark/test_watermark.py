"""The watermark: what it survives, and that unmarked images have none."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from reimagen_generator.watermark.detection import detect
from reimagen_generator.watermark.embedding import embed
from reimagen_generator.watermark.pattern import COARSE, FINE, LARGE, LAYOUTS, Layout

NUMBER = 0xC0FFEE42


def scene(side: int, seed: int, height: int | None = None) -> np.ndarray:
    """Return an image with soft colors, edges and some noise."""
    random = np.random.default_rng(seed)
    size = (side, height or side)
    colors = random.integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(colors).resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(image)
    for _ in range(6):
        corner = random.uniform(0, 0.7, 2) * size
        box = (*corner, *(corner + random.uniform(0.1, 0.3, 2) * size))
        canvas.ellipse(box, fill=tuple(int(level) for level in random.integers(0, 256, 3)))
    noisy = np.asarray(image) + random.normal(0, 3, (*image.size[::-1], 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return Image.open(buffer).convert("RGB")


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    across, down = round(share * image.width), round(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


TRANSFORMS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "jpeg": jpeg,
    "half": lambda image: resized(image, 0.5),
    "larger": lambda image: resized(image, 1.7),
    "crop": lambda image: cropped(image, 0.1),
    "corner": lambda image: image.crop((0, image.height // 4, image.width * 3 // 4, image.height)),
    "all": lambda image: jpeg(resized(cropped(image, 0.1), 0.7)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("width", "height"), [(256, 256), (640, 640), (512, 384)])
def test_the_id_is_read_after_each_transform(width: int, height: int, transform: str) -> None:
    marked = embed(scene(width, 1, height), NUMBER)
    found = detect(np.asarray(TRANSFORMS[transform](Image.fromarray(marked))))
    assert found
    assert found.id == NUMBER


@pytest.mark.parametrize("transform", ["none", "jpeg", "half", "larger", "crop"])
def test_a_mark_without_id_is_found_in_small_images(transform: str) -> None:
    marked = embed(scene(64, 1), NUMBER)
    found = detect(np.asarray(TRANSFORMS[transform](Image.fromarray(marked))))
    assert found
    assert found.id is None


@settings(max_examples=25, deadline=None)
@given(st.integers(24, 300), st.integers(24, 300), st.integers(0, 2**32), st.booleans())
def test_unmarked_images_have_no_mark(width: int, height: int, seed: int, noise: bool) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), np.uint8) if noise else scene(width, seed, height)
    assert detect(pixels) is None


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(256, 256), (1, 1), (1, 4000), (4000, 24), (47, 47)])
def test_flat_and_odd_images_have_no_mark(level: int, shape: tuple[int, int]) -> None:
    assert detect(np.full((*shape, 3), level, np.uint8)) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_each_id_is_read_from_its_pattern(number: int) -> None:
    found = detect(embed(np.full((256, 256, 3), 128, np.uint8), number))
    assert found
    assert found.id == number


@pytest.mark.parametrize("side", [64, 256, 700])
def test_the_mark_is_faint_gray_and_repeatable(side: int) -> None:
    image = scene(side, 2)
    marked = embed(image, NUMBER)
    change = marked.astype(int) - image
    assert 10 * math.log10(255**2 / np.mean(change**2)) > 37
    assert np.abs(change).max() <= 16
    inside = (image.min(-1) > 16) & (image.max(-1) < 239)
    assert np.all(change[inside] == change[inside][:, :1])
    assert np.array_equal(marked, embed(image, NUMBER))
    assert not np.array_equal(marked, embed(image, NUMBER + 1)) or side < 128


def test_tiny_images_stay_as_they_are() -> None:
    image = scene(47, 3)
    assert embed(image, NUMBER) is image


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_pattern_is_a_sum_of_its_waves_and_no_two_share_one(layout: Layout) -> None:
    down, right = np.mgrid[: layout.tile, : layout.tile] * (2 * math.pi / layout.tile)
    waves = np.zeros((layout.tile, layout.tile))
    symbols = iter(NUMBER.to_bytes(4, "big"))
    for index, layer in enumerate(layout.layers):
        y, x = divmod(next(symbols), 16) if index else (0, 0)
        for row, column, phase in zip(layer.rows, layer.columns, layer.phases, strict=True):
            shift = layout.tile / 16 * 2 * math.pi / layout.tile
            waves += np.cos(row * (down - y * shift) + column * (right - x * shift) + np.angle(phase))
    expected = waves * math.sqrt(layout.energy / np.mean(waves**2))
    assert np.allclose(layout.draw(NUMBER), expected, atol=1e-4)
    bins = [(row, column) for layer in layout.layers for row, column in zip(layer.rows, layer.columns, strict=True)]
    assert len(bins) == len(set(bins))


def test_the_patterns_of_small_images_do_not_overlap() -> None:
    assert COARSE.highest < FINE.lowest
    assert COARSE.side == FINE.side != LARGE.side
