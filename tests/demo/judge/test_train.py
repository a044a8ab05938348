"""Training batches and evaluation images of the judge."""

import json
import math

import numpy as np
import pytest

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import Art
from reimagen_demo.art.images import ArtImages
from reimagen_demo.data.composer import Composer
from reimagen_demo.judge import images as judge_images
from reimagen_demo.judge.images import NO_SCENE, JudgeImages
from reimagen_demo.judge.train import SHIPPED, accuracy, compose, configuration, measure, plain, related
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.judges.classifier import TrainedClassifier

KNOWN = entities()[:3]


@pytest.fixture(scope="module")
def images(art: Art) -> JudgeImages:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_images, "_SCENES_KEPT", 1)
        return JudgeImages(art, KNOWN, 64, 24, seed=0)


@pytest.mark.parametrize("number", [0, judge_images._PLAIN_BEFORE])
def test_a_batch_is_a_function_of_its_number(images: JudgeImages, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(judge_images, "_SCENES_KEPT", 1)
    first, again, other = images.batch(number), images.batch(number), images.batch(number + 1)
    assert first.images.shape == (24, 64, 64, 3)
    assert first.images.dtype == np.uint8
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()
    assert set(first.entities) == set(range(len(KNOWN)))
    assert set(first.scenes) <= {NO_SCENE, *range(len(SCENES))}
    assert (NO_SCENE in first.scenes) == (number > 0)  # close-ups come later than plain images
    assert all(np.ptp(image) > 20 for image in first.images)  # none is blank


def test_relations_name_a_second_entity() -> None:
    shown = related(40)
    assert not any(composition.is_plain for composition, _ in shown)
    assert {len(composition.entities) for composition, _ in shown} == {1, 2, 3}
    assert related(40) == shown


def test_the_shipped_judges_accuracy_equals_that_in_its_file(art: Art) -> None:
    judge = TrainedClassifier.load(SHIPPED)
    assert (judge.config.entities, judge.config.scenes) == (configuration().entities, configuration().scenes)
    reported = json.loads((SHIPPED / "judge.json").read_text())["facts"]["accuracy"]
    # It judges images of held-out entities.
    assert reported["split: held-out"]["faithful"] >= 0.9
    shown = plain()[::30]
    measured = accuracy(measure(judge, shown, compose(Composer(ArtImages(art), judge.side), shown)))
    assert measured["images"] > 100
    share = reported["all"]["faithful"]
    assert abs(measured["faithful"] - share) < 3 * math.sqrt(share * (1 - share) / measured["images"])
