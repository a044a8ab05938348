"""Recognition of several things: their positions, and true images of them."""

from random import Random

import numpy as np
import pytest

from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.art.icons import Art
from reimagen_demo.art.images import ArtImages
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.compositions import Composition, Relation, Thing
from reimagen_demo.judge.train import SHIPPED
from reimagen_demo.report.geometry import CutOuts
from reimagen_demo.report.prompts import GEOMETRY, TWO, Prompt
from reimagen_demo.report.recognized import CloseUpJudge, are_apart, is_arranged
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.registration import Pose

LEFT, RIGHT, LOW = Pose(0.25, 0.5, 0.4), Pose(0.75, 0.5, 0.4), Pose(0.25, 0.8, 0.2)


def entity(name: str) -> Entity:
    return next(each for each in entities() if each.name == name)


def two(relation: Relation | None = None) -> Composition:
    return Composition((Thing(entity("saxophone")), Thing(entity("cow"))), SCENES[0], relation)


def prompt(composition: Composition, group: str) -> Prompt:
    names = tuple(each.name for each in composition.entities)
    return Prompt(Item("x", "", names, composition.scene.phrase, group), composition)


def test_two_things_in_one_place_are_not_apart() -> None:
    assert are_apart([LEFT, RIGHT, LOW])
    assert not are_apart([LEFT, RIGHT, Pose(0.3, 0.55, 0.3)])


@pytest.mark.parametrize(
    ("relation", "poses", "right"),
    [
        (None, (LEFT, RIGHT), True),
        (None, (RIGHT, LEFT), False),
        ("left of", (LEFT, RIGHT), True),
        ("right of", (LEFT, RIGHT), False),
        ("above", (LEFT, LOW), True),
        ("below", (LEFT, LOW), False),
    ],
)
def test_the_order_must_be_the_stated_one(relation: Relation | None, poses: tuple[Pose, Pose], right: bool) -> None:
    assert is_arranged(two(relation), poses) == right


def test_stated_places_must_be_taken_by_the_right_things() -> None:
    places = Composition((Thing(entity("cow"), place="left"), Thing(entity("rat"), place="right")), SCENES[0])
    assert is_arranged(places, (LEFT, RIGHT))
    assert not is_arranged(places, (RIGHT, LEFT))


def test_things_are_recognized_in_true_images_and_absent_ones_are_not(art: Art) -> None:
    judge, cutouts, composer = (
        CloseUpJudge(TrainedClassifier.load(SHIPPED)),
        CutOuts(art),
        Composer(ArtImages(art), 256),
    )

    def scores(shown: Composition, asked: Prompt) -> dict[str, float]:
        image = np.asarray(composer.image(Random(3), shown, ["noto"] * len(shown.things)))
        return judge.scores(asked, [[cutouts.of(each, "noto")] for each in asked.composition.entities], image)

    both, one = two(), Composition((Thing(entity("saxophone")),), SCENES[0])
    true = scores(both, prompt(both, TWO))
    assert (true["close-up entity"], true["some there"], true["arranged"]) == (1, 0, 1)
    assert np.isnan(true["obeyed"])
    missing = scores(one, prompt(both, TWO))
    assert (missing["close-up entity"], missing["some there"], missing["arranged"]) == (0, 1, 0)

    # A tiny thing upside down is recognized, and another thing in its pose is not.
    stated = Composition((Thing(entity("saxophone"), size="tiny", turned="upside down"),), SCENES[0])
    other = Composition((Thing(entity("mailbox"), size="tiny", turned="upside down"),), SCENES[0])
    right, wrong = (scores(shown, prompt(stated, GEOMETRY)) for shown in (stated, other))
    assert (right["close-up entity"], right["obeyed"]) == (1, 1)
    assert (wrong["close-up entity"], wrong["obeyed"]) == (0, 0)
