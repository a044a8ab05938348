import re
from itertools import product
from random import Random

import numpy as np
import pytest

from reimagen_demo.art.entities import entities
from reimagen_demo.data.plurals import plural
from reimagen_demo.scenes.registry import SCENES, Scene, by_phrase
from reimagen_demo.scenes.wordings import UNSEEN, WORDINGS

STOP_WORDS = {"a", "an", "the", "in", "on", "at", "by", "of", "with", "s"}
WHITE = by_phrase()["on a plain white background"]
each_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.phrase)


def words(text: str) -> set[str]:
    """Return the words without stop words."""
    return set(re.findall(r"[a-z]+", text.lower())) - STOP_WORDS


def test_there_are_many_scenes_with_many_wordings() -> None:
    assert len(SCENES) >= 24
    phrases = [phrase for scene in SCENES for phrase in (*scene.phrases, *scene.unseen)]
    assert len(set(phrases)) == len(phrases)
    assert set(WORDINGS) == set(UNSEEN) == set(by_phrase())
    assert all(len(scene.phrases) >= 10 for scene in SCENES)


@each_scene
def test_two_wordings_are_held_out_and_one_shares_no_word_with_training(scene: Scene) -> None:
    assert len(scene.unseen) >= 2
    trained = {word for phrase in scene.phrases for word in words(phrase)}
    assert any(not words(phrase) & trained for phrase in scene.unseen)


@each_scene
def test_the_same_seed_gives_the_same_image(scene: Scene) -> None:
    assert scene.render(Random(1), 64).tobytes() == scene.render(Random(1), 64).tobytes()
    assert scene.render(Random(1), 64).tobytes() != scene.render(Random(2), 64).tobytes()


@each_scene
def test_a_scene_is_rendered_at_any_size(scene: Scene) -> None:
    large, small = scene.render(Random(1), 512), scene.render(Random(1), 64)
    assert large.size == (512, 512)
    difference = np.asarray(large.resize((64, 64))).astype(float) - np.asarray(small).astype(float)
    assert np.abs(difference).mean() < 4
    # Sharp: the detail exceeds that of an upsampled image, except on plain white.
    assert scene is WHITE or np.abs(np.asarray(small.resize((512, 512))).astype(float) - np.asarray(large)).mean() > 1


@each_scene
def test_objects_stand_in_the_lower_part(scene: Scene) -> None:
    assert scene.ground is None or 0.75 < scene.ground < 0.95


def test_scenes_look_different_from_each_other() -> None:
    """Downsampled, each of several instances of a scene is closest to another instance of that scene."""
    instances = [
        (scene.phrase, np.asarray(scene.render(Random(seed), 64).resize((8, 8))).astype(float))
        for scene, seed in product(SCENES, range(6))
    ]
    for phrase, image in instances:
        others = sorted((np.abs(image - other).mean(), name) for name, other in instances if other is not image)
        assert others[0][1] == phrase


@each_scene
def test_the_words_of_a_scene_name_no_entity(scene: Scene) -> None:
    names = {entity.name for entity in entities()} | {plural(entity) for entity in entities()}
    for text in (*scene.phrases, *scene.unseen, scene.caption):
        assert not names & words(text)


@each_scene
def test_the_caption_of_a_scene_shares_at_most_one_word_with_a_prompt(scene: Scene) -> None:
    """Two rare words in common, and BM25 ranks the empty scene above the entity of the prompt."""
    for phrase in (*scene.phrases, *scene.unseen):
        assert len(words(phrase) & words(scene.caption)) <= 1
