import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from reimagen_generator.diffusion.references import decode
from reimagen_generator.diffusion.references import square as shown
from reimagen_retriever.knowledge_base.fingerprint import fingerprint, near_duplicates
from reimagen_retriever.neighbors.pixels import cropped, padded


def file(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colors(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return soft blots that differ for each seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(40, 40), (64, 31), (25, 60), (1500, 700)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_neighbors_square_equals_the_generators(size: tuple[int, int], kind: str) -> None:
    data = file(colors(7, size), kind)
    extension, square = padded(data, 32)
    assert extension == "png"
    assert np.array_equal(pixels(square), shown(decode(data, field="image"), 32))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("size", [(60, 20), (20, 60)])
def test_a_pairs_own_square_is_its_center_without_bars(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", ((size[0] - 20) // 2, (size[1] - 20) // 2, (size[0] + 20) // 2, (size[1] + 20) // 2))
    extension, square = cropped(file(picture), 10)
    assert extension == "png"
    assert (pixels(square) == (0, 0, 255)).all()
    assert cropped(file(picture), 65)[0] == "webp"


def test_transparent_and_rotated_images_are_read_as_displayed() -> None:
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert (pixels(cropped(file(clear), 8)[1]) == 255).all()
    lying = Image.new("RGB", (40, 20), "red")
    lying.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    lying.save(buffer, "PNG", exif=exif)
    upright = pixels(padded(buffer.getvalue(), 40)[1])
    assert upright[5, 20].tolist() == [0, 0, 255]
    assert upright[35, 20].tolist() == [255, 0, 0]


RECODED: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda picture: file(picture, "JPEG", quality=50),
    "webp": lambda picture: file(picture, "WEBP", quality=60),
    "half": lambda picture: file(picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)),
    "stretched": lambda picture: file(picture.resize((200, 150), Image.Resampling.BICUBIC)),
}


@pytest.mark.parametrize("recode", RECODED.values(), ids=RECODED)
def test_a_near_duplicate_is_the_same_image_in_another_file(recode: Callable[[Image.Image], bytes]) -> None:
    pictures = [colors(seed, (120, 90)) for seed in range(12)]
    prints = np.stack([fingerprint(file(picture)) for picture in pictures])
    again = np.stack([fingerprint(recode(picture)) for picture in pictures])
    assert np.array_equal(near_duplicates(prints, again), np.eye(12, dtype=bool))


def test_images_that_differ_in_color_are_not_near_duplicates() -> None:
    def book(color: str) -> np.ndarray:
        picture = Image.new("RGB", (64, 64), "white")
        picture.paste(color, (20, 10, 44, 54))
        return fingerprint(file(picture))

    books = np.stack([book(color) for color in ("#c02020", "#2040c0", "#d0d0d0", "#a0a0a0")])
    assert np.array_equal(near_duplicates(books, books), np.eye(4, dtype=bool))


def test_faint_images_are_distinguished() -> None:
    def dot(place: int) -> np.ndarray:
        picture = Image.new("RGB", (64, 64), "white")
        picture.paste("#f4f4f4", (place, place, place + 10, place + 10))
        return fingerprint(file(picture))

    dots = np.stack([dot(place) for place in (5, 25, 45)])
    assert np.abs(dots[0].astype(float) - dots[1]).mean() < 1
    assert np.array_equal(near_duplicates(dots, dots), np.eye(3, dtype=bool))
