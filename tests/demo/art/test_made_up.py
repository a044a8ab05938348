from random import Random

import numpy as np
import pytest

from reimagen_demo.art.entities import by_name
from reimagen_demo.art.made_up import draw_thing, is_made_up, sprite

SEEDS = range(40)


@pytest.fixture(scope="module")
def things() -> list[tuple[str, np.ndarray]]:
    drawn = [draw_thing(Random(seed)) for seed in SEEDS]
    return [(thing.phrase, np.asarray(sprite(thing, 64))) for thing in drawn]


def test_a_drawing_is_trimmed_and_the_same_each_time() -> None:
    for seed in SEEDS:
        thing = draw_thing(Random(seed))
        assert is_made_up(thing)
        image = sprite(thing, 48)
        assert image.mode == "RGBA"
        assert max(image.size) == 48
        alpha = np.asarray(image)[..., 3]
        assert min(edge.max() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])) > 0
        assert sprite(thing, 48).tobytes() == image.tobytes()


def test_no_two_made_up_objects_look_alike(things: list[tuple[str, np.ndarray]]) -> None:
    looks = {image.tobytes() for _, image in things}
    assert len(looks) == len(things)
    solid = [image[image[..., 3] > 200][:, :3].astype(float) for _, image in things]
    assert np.std([colors.mean(axis=0) for colors in solid], axis=0).min() > 25
    assert sum(colors.std(axis=0).max() > 20 for colors in solid) > len(solid) / 2  # most have a texture


def test_some_made_up_objects_are_pale_or_thin(things: list[tuple[str, np.ndarray]]) -> None:
    assert any(image[image[..., 3] > 200][:, :3].min(axis=-1).mean() > 170 for _, image in things)
    assert any(min(image.shape[:2]) < 24 for _, image in things)


def test_made_up_names_are_no_entities(things: list[tuple[str, np.ndarray]]) -> None:
    for phrase, _ in things:
        article, _, name = phrase.partition(" ")
        assert article == ("an" if name[0] in "aeiou" else "a")
        assert name not in by_name()
