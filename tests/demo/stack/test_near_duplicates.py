import io

import numpy as np
import pytest
from PIL import Image

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.art.images import PairImages
from reimagen_retriever.knowledge_base.fingerprint import fingerprint, near_duplicates

# Books, bank notes, calendars, birds, drops, hats that differ in a color or a detail; the nearest of the whole art.
ALIKE = ("1f4d5", "1f4d7", "1f4d8", "1f4b5", "1f4b6", "1f4c6", "1f5d3", "1f426", "1f426-200d-2b1b", "1f4a7", "1f94d")


@pytest.fixture(scope="module")
def images(art: Art) -> list[Image.Image]:
    draw = PairImages(art).draw
    by_code = {entity.code: entity for entity in entities()}
    return [draw(by_code[code], style) for code in ALIKE for style in STYLES]


def prints(images: list[Image.Image], kind: str, **options: int) -> np.ndarray:
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(fingerprint(buffer.getvalue()))
    return np.stack(files)


def test_similar_icons_are_not_near_duplicates(images: list[Image.Image]) -> None:
    own = prints(images, "PNG", compress_level=1)
    assert np.array_equal(near_duplicates(own, own), np.eye(len(images), dtype=bool))


def test_an_icon_in_another_file_is_only_its_own_near_duplicate(images: list[Image.Image]) -> None:
    own = prints(images, "PNG", compress_level=1)
    again = prints([image.resize((128, 128)) for image in images], "JPEG", quality=60)
    assert np.array_equal(near_duplicates(own, again), np.eye(len(images), dtype=bool))
