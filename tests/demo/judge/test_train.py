"""What the judge learns from, and what it is measured on."""

import json
import math

import numpy as np
import pytest

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import Art
from reimagen_demo.art.pictures import ArtPictures
from reimagen_demo.data.composer import Composer
from reimagen_demo.judge import pictures as judge_pictures
from reimagen_demo.judge.pictures import JudgePictures
from reimagen_demo.judge.train import SHIPPED, accuracy, compose, configuration, measure, plain, related
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.judges.classifier import TrainedClassifier

KNOWN = entities()[:3]


@pytest.fixture(scope="module")
def pictures(art: Art) -> JudgePictures:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_pictures, "_SCENES_KEPT", 1)
        return JudgePictures(art, KNOWN, 64, 24, seed=0)


@pytest.mark.parametrize("number", [0, judge_pictures._PLAIN_BEFORE])
def test_a_batch_is_a_function_of_its_number(
    pictures: JudgePictures, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(judge_pictures, "_SCENES_KEPT", 1)
    first, again, other = pictures.batch(number), pictures.batch(number), pictures.batch(number + 1)
    assert first.pictures.shape == (24, 64, 64, 3)
    assert first.pictures.dtype == np.uint8
    np.testing.assert_array_equal(first.pictures, again.pictures)
    assert (first.pictures != other.pictures).any()
    assert set(first.entities) == set(range(len(KNOWN)))
    assert set(first.scenes) <= set(range(len(SCENES)))
    assert all(np.ptp(picture) > 20 for picture in first.pictures)  # none is blank


def test_relations_name_something_more() -> None:
    shown = related(40)
    assert not any(composition.is_plain for composition, _ in shown)
    assert {len(composition.entities) for composition, _ in shown} == {1, 2, 3}
    assert related(40) == shown


def test_the_shipped_judge_is_as_often_right_as_its_file_tells(art: Art) -> None:
    judge = TrainedClassifier.load(SHIPPED)
    assert (judge.config.entities, judge.config.scenes) == (configuration().entities, configuration().scenes)
    told = json.loads((SHIPPED / "judge.json").read_text())["facts"]["accuracy"]
    # What it judges are pictures of held-out things.
    assert told["split: held-out"]["faithful"] >= 0.9
    shown = plain()[::30]
    measured = accuracy(measure(judge, shown, compose(Composer(ArtPictures(art), judge.side), shown)))
    assert measured["pictures"] > 100
    share = told["all"]["faithful"]
    assert abs(measured["faithful"] - share) < 3 * math.sqrt(share * (1 - share) / measured["pictures"])
