"""The checks of stated geometry and of copies, on known poses and true images."""

import hashlib
import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.art.icons import STYLES, Art, Style
from reimagen_demo.art.images import ArtImages, PairImages
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.compositions import Composition, Thing
from reimagen_demo.data.layout import lay_out
from reimagen_demo.report.geometry import OWN, CutOuts, obeyed, pose_of, same, scores_of
from reimagen_demo.report.prompts import ATTRIBUTES, geometry_prompts, variety_prompts
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.registration import Pose


def entity(name: str) -> Entity:
    return next(each for each in entities() if each.name == name)


def style(name: str) -> Style:
    return next(each for each in STYLES if each.name == name)


@pytest.fixture(scope="module")
def cutouts(art: Art) -> CutOuts:
    return CutOuts(art)


def test_each_attribute_is_measured_separately() -> None:
    thing = Thing(entity("cow"), size="tiny", place="top left", mirrored=True, turned="left")
    right = Pose(0.25, 0.3, 0.2, mirrored=True, angle=math.radians(30))
    assert obeyed(thing, right) == dict.fromkeys(ATTRIBUTES, True)
    wrong = {
        "place": Pose(0.25, 0.7, 0.2, mirrored=True, angle=math.radians(30)),
        "size": Pose(0.25, 0.3, 0.5, mirrored=True, angle=math.radians(30)),
        "mirrored": Pose(0.25, 0.3, 0.2, angle=math.radians(30)),
        "turned": Pose(0.25, 0.3, 0.2, mirrored=True, angle=math.radians(-30)),
    }
    for name, pose in wrong.items():
        assert obeyed(thing, pose) == {each: each != name for each in ATTRIBUTES}


@pytest.mark.parametrize(("degrees", "right"), [(180, True), (-170, True), (165, True), (140, False), (0, False)])
def test_a_half_turn_is_the_same_in_both_directions(degrees: float, right: bool) -> None:
    upside_down = Thing(entity("cow"), turned="upside down")
    assert obeyed(upside_down, Pose(0.5, 0.5, 0.5, angle=math.radians(degrees))) == {"turned": right}


def test_copies_contradict_each_prompt_and_true_images_satisfy_it(art: Art) -> None:
    composer = Composer(ArtImages(art), 64)
    stated = set()
    for prompt in geometry_prompts()[:60]:
        thing = prompt.composition.things[0]
        stated.add(tuple(sorted(obeyed(thing, OWN))))
        assert not all(obeyed(thing, OWN).values())
        # One style for each entity is enough, because rendering takes long.
        drawing = composer.drawing(thing.entity, "twemoji")
        [placed] = lay_out(Random(prompt.item.key), prompt.composition, [drawing])
        assert all(obeyed(thing, pose_of(placed.placement)).values()), prompt.item.prompt
    assert len(stated) == 15


def test_a_true_image_satisfies_its_prompt_and_a_copy_in_place_is_detected(cutouts: CutOuts, art: Art) -> None:
    thing = Thing(entity("cow"), place="left", mirrored=True)
    composition = Composition((thing,), SCENES[0])
    composed = Composer(ArtImages(art), 128).compose(Random(1), composition, ["noto"], [False])
    cutout = cutouts.of(thing.entity, "noto")
    true = scores_of(thing, [cutout], np.asarray(composed.image))
    assert (true["obeyed"], true["place"], true["mirrored"], true["copied in place"]) == (1, 1, 1, 0)
    assert math.isnan(true["size"])
    assert math.isnan(true["turned"])
    # The base's image itself is an exact copy in place.
    with Image.open(PairImages(art).file(thing.entity, style("noto"))) as reference:
        copied = scores_of(thing, [cutout], np.asarray(reference.convert("RGB")))
    assert (copied["obeyed"], copied["copied in place"]) == (0, 1)
    assert copied["match"] > 0.9


def test_the_drawings_of_the_references_are_registered(cutouts: CutOuts, art: Art) -> None:
    cow = entity("cow")
    shown = hashlib.sha256(PairImages(art).file(cow, style("twemoji")).read_bytes()).hexdigest()[:16]
    assert cutouts.among(cow, [Path(shown), Path("another")]) == [cutouts.of(cow, "twemoji")]
    assert len(cutouts.among(cow, [])) == 4


def test_poses_are_equal_within_a_visible_tolerance() -> None:
    pose = Pose(0.4, 0.6, 0.5, angle=math.radians(178))
    assert all(same(pose, Pose(0.46, 0.55, 0.56, angle=math.radians(-174))).values())
    assert same(pose, Pose(0.5, 0.6, 0.6, mirrored=True, angle=0.0)) == dict.fromkeys(ATTRIBUTES, False)


def test_a_prompt_of_several_seeds_has_a_key_for_each() -> None:
    asked = variety_prompts()
    assert len({prompt.item.key for prompt in asked}) == len(asked) == 160
    assert len({prompt.item.prompt for prompt in asked[:8]}) == 1
    assert len({prompt.item.prompt for prompt in asked}) == 20
    assert all(prompt.composition.is_plain for prompt in asked)
