"""The layout of objects, for every statement of a composition."""

import math
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import get_args

import pytest
from PIL import Image

from reimagen_demo.art.entities import by_name
from reimagen_demo.data.compositions import Composition, Place, Relation, Size, Thing, Turn, draw_composition
from reimagen_demo.data.layout import SIZES, TILT, Placed, lay_out
from reimagen_demo.data.placing import Drawing
from reimagen_demo.scenes.registry import Scene, by_phrase

OWL, CANDLE, DRUM = (by_name()[name] for name in ("owl", "candle", "drum"))
BEACH, SPACE = by_phrase()["on the beach"], by_phrase()["in space"]
DRAWINGS = [Drawing.padded(Image.new("RGBA", size, (90, 90, 90, 255))) for size in ((60, 60), (30, 80), (90, 40))]
SEEDS = range(25)


def laid_out(composition: Composition, seed: int) -> list[Placed]:
    """Return the layout in the order of the composition's objects."""
    placed = lay_out(Random(seed), composition, DRAWINGS[: len(composition.things)])
    return sorted(placed, key=lambda one: one.thing)


def each(composition: Composition) -> list[list[Placed]]:
    return [laid_out(composition, seed) for seed in SEEDS]


@pytest.mark.parametrize("size", [*get_args(Size), None])
def test_a_stated_size_is_kept_and_sizes_do_not_overlap(size: Size | None) -> None:
    low, high = SIZES[size]
    for (placed,) in each(Composition((Thing(OWL, size=size),), BEACH)):
        assert low <= placed.placement.size <= high
    assert SIZES["tiny"][1] < SIZES["small"][0]
    assert SIZES["small"][1] < SIZES[None][0]
    assert SIZES["large"][1] < SIZES["huge"][0]


@pytest.mark.parametrize("place", get_args(Place))
@pytest.mark.parametrize("scene", [BEACH, SPACE], ids=["ground", "none"])
def test_an_object_is_at_its_stated_position(place: Place, scene: Scene) -> None:
    for (placed,) in each(Composition((Thing(CANDLE, place=place),), scene)):
        x, y = placed.placement.x, placed.placement.y
        assert (x < 0.4) == ("left" in place)
        assert (x > 0.6) == ("right" in place)
        assert (y < 0.35) == ("top" in place)
        if "bottom" in place:
            assert y > 0.6
        if place == "center":
            assert abs(x - 0.5) < 0.05 > abs(y - 0.5)


def test_unstated_attributes_vary() -> None:
    placed = [one.placement for (one,) in (laid_out(Composition.plain(OWL, BEACH), seed) for seed in range(200))]
    assert min(one.x for one in placed) < 0.4 < 0.6 < max(one.x for one in placed)
    assert min(one.size for one in placed) < 0.42 < 0.7 < max(one.size for one in placed)
    assert 0.02 < sum(one.mirrored for one in placed) / 200 < 0.2
    assert all(one.angle == 0 for one in placed)


def test_stated_turns_and_mirrorings_are_applied() -> None:
    least, most = map(math.radians, TILT)
    angles: dict[Turn, tuple[float, float]] = {
        "upside down": (math.pi, math.pi),
        "left": (least, most),
        "right": (-most, -least),
    }
    for turned, (lowest, highest) in angles.items():
        for (placed,) in each(Composition((Thing(OWL, turned=turned, mirrored=True),), BEACH)):
            assert lowest <= placed.placement.angle <= highest
            assert placed.placement.mirrored


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("place", [None, "left", "right"])
def test_several_copies_of_an_object_are_side_by_side(count: int, place: Place | None) -> None:
    for placed in each(Composition((Thing(OWL, count, place=place),), BEACH)):
        assert len(placed) == count
        spans = sorted((one.placement.x, one.placement.size) for one in placed)
        for (x, size), (other, other_size) in pairwise(spans):
            assert x + size / 2 <= other - other_size / 2 + 0.01
        if place:
            assert all((x < 0.5) == (place == "left") for x, _ in spans)


@pytest.mark.parametrize("scene", [BEACH, SPACE], ids=["ground", "none"])
@pytest.mark.parametrize("relation", [None, *get_args(Relation)])
def test_two_objects_have_the_stated_relation(scene: Scene, relation: Relation | None) -> None:
    shown = Composition((Thing(OWL), Thing(DRUM)), scene, relation)
    for seed in SEEDS:
        order = [one.thing for one in lay_out(Random(seed), shown, DRAWINGS[:2])]
        first, second = (one.placement for one in laid_out(shown, seed))
        apart = (first.size + second.size) / 2
        match relation:
            case None | "left of":
                assert first.x < second.x
            case "right of":
                assert first.x > second.x
            case "above":
                assert first.y < second.y
                assert abs(first.x - second.x) < 0.2
            case "below":
                assert first.y > second.y
            case "behind":
                assert order == [0, 1]
                assert math.hypot(first.x - second.x, first.y - second.y) < apart
            case "in front of":
                assert order == [1, 0]
                assert math.hypot(first.x - second.x, first.y - second.y) < apart


def test_three_objects_are_in_the_order_of_mention_from_left_to_right() -> None:
    for placed in each(Composition((Thing(DRUM), Thing(OWL), Thing(CANDLE)), BEACH)):
        first, second, third = (one.placement.x for one in placed)
        assert first < second < third


def test_no_object_is_cut_off() -> None:
    for seed in range(600):
        rng = Random(seed)
        shown = draw_composition(rng, "all", plain=False)
        for placed in lay_out(rng, shown, DRAWINGS[: len(shown.things)]):
            one = placed.placement
            extent = DRAWINGS[placed.thing].extent(mirrored=one.mirrored, angle=one.angle).scaled(one.size)
            assert one.x - extent.left > -0.001
            assert one.x + extent.right < 1.001
            assert one.y - extent.up > -0.001
            assert one.y + extent.down < 1.001


def test_objects_stand_on_the_ground_if_there_is_one() -> None:
    shown = Composition.plain(OWL, BEACH)
    standing = [one.standing for (one,) in (laid_out(shown, seed) for seed in range(100))]
    assert 0.8 < sum(standing) / 100 < 1
    assert not any(one.standing for (one,) in each(replace(shown, scene=SPACE)))
