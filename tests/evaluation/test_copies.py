"""Copies of a reference are detected at any position and size; other images are not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from reimagen_evaluation import copies
from reimagen_evaluation.copies import NEAR_COPY, copy_distance


def thing(side: int, hue: str = "#c03020") -> Image.Image:
    """Return a drawing without symmetry on a transparent background."""
    large = Image.new("RGBA", (512, 512), (0, 0, 0, 0))
    draw = ImageDraw.Draw(large)
    draw.ellipse((60, 120, 420, 480), fill=hue)
    draw.polygon([(300, 150), (470, 30), (440, 260)], fill="#2050b0")
    draw.rectangle((140, 220, 220, 300), fill="white")
    draw.line((90, 400, 400, 330), fill="black", width=24)
    return large.resize((side, side), Image.Resampling.LANCZOS)


def scene(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)


def placed(drawing: Image.Image, left: int, top: int) -> np.ndarray:
    image = scene(1)
    image.paste(drawing, (left, top), drawing)
    return np.asarray(image)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = Image.new("RGB", (256, 256), "#eef2e0")
    drawing = thing(192)
    image.paste(drawing, (32, 32), drawing)
    path = tmp_path_factory.mktemp("references") / "reference"
    image.save(path, "PNG")
    return path


@pytest.mark.parametrize(("side", "left", "top"), [(24, 30, 5), (40, 3, 20), (52, 8, 10)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_drawing_itself_is_a_copy_at_any_position(
    reference: Path, side: int, left: int, top: int, mirrored: bool
) -> None:
    drawing = thing(side)
    if mirrored:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert copy_distance(placed(drawing, left, top), [reference]) < NEAR_COPY


def test_other_drawings_are_not_copies(reference: Path) -> None:
    empty = copy_distance(np.asarray(scene(1)), [reference])
    recolored = copy_distance(placed(thing(48, hue="#30a040"), 8, 8), [reference])
    turned = copy_distance(placed(thing(48).rotate(90), 8, 8), [reference])
    assert min(empty, recolored, turned) > 1.5 * NEAR_COPY
    blurred = Image.fromarray(placed(thing(48), 8, 8)).filter(ImageFilter.GaussianBlur(1))
    assert copy_distance(np.asarray(blurred), [reference]) < min(empty, recolored, turned)


def test_the_nearest_reference_counts_and_none_gives_no_distance(reference: Path, tmp_path: Path) -> None:
    scene(5).save(tmp_path / "other", "PNG")
    image = placed(thing(48), 8, 8)
    assert copy_distance(image, [tmp_path / "other", reference]) == copy_distance(image, [reference])
    assert np.isnan(copy_distance(image, []))


def test_the_distance_is_the_minimum_over_all_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distance is compared with sums over all positions, in two sizes."""
    monkeypatch.setattr(copies, "SCALES", (0.7, 1.0))
    rng = np.random.default_rng(3)
    drawing = rng.integers(0, 150, (40, 40, 3)).astype(np.uint8)
    card = np.full((64, 64, 3), 250, np.uint8)
    card[12:52, 12:52] = drawing
    Image.fromarray(card).save(tmp_path / "card", "PNG")
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    least = np.inf
    for pixels, mask in copies._templates(tmp_path / "card"):
        height, width = mask.shape
        for top in range(65 - height):
            for left in range(65 - width):
                window = image[top : top + height, left : left + width].astype(float)
                least = min(least, float(np.square(window - pixels)[mask].mean()))
    assert copy_distance(image, [tmp_path / "card"]) == pytest.approx(np.sqrt(least), abs=1e-6)
