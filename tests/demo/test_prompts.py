from collections import Counter
from random import Random

import pytest

from reimagen_demo.entities import by_name, entities
from reimagen_demo.frequency import Pool
from reimagen_demo.prompts import (
    PLACES,
    PLAIN,
    SIZES,
    TIMES,
    WEATHERS,
    Composition,
    draw_composition,
    plural,
    prompt_of,
)
from reimagen_demo.scenes import SCENES, Scene, by_phrase

MEADOW = by_phrase()["on a green meadow"]
FOX, VIOLIN, GRAPES = by_name()["fox"], by_name()["violin"], by_name()["grapes"]


def prompts(composition: Composition) -> set[str]:
    return {prompt_of(Random(seed), composition) for seed in range(300)}


@pytest.mark.parametrize(
    ("composition", "prompt"),
    [
        (Composition((FOX,), MEADOW), "a fox on a green meadow"),
        (Composition((FOX,), MEADOW, count=2), "two foxes on a green meadow"),
        (Composition((FOX,), MEADOW, size="tiny"), "a tiny fox on a green meadow"),
        (Composition((GRAPES,), MEADOW, size="huge"), "huge grapes on a green meadow"),
        (Composition((FOX,), MEADOW, place="left"), "a fox on the left, on a green meadow"),
        (Composition((FOX,), MEADOW, time="night"), "a fox on a green meadow at night"),
        (Composition((FOX,), MEADOW, weather="fog"), "in fog, a fox on a green meadow"),
        (Composition((FOX, VIOLIN), MEADOW), "a fox and a violin on a green meadow"),
        (
            Composition((FOX, VIOLIN), MEADOW, place="right", time="dawn"),
            "a fox on the right and a violin on the left, on a green meadow at dawn",
        ),
    ],
)
def test_a_prompt_names_what_the_picture_shows(composition: Composition, prompt: str) -> None:
    assert prompt in prompts(composition)


def test_a_plain_prompt_is_an_entity_in_a_scene() -> None:
    for scene in SCENES:
        assert prompts(Composition((FOX,), scene)) == {f"{FOX.phrase} {phrase}" for phrase in scene.phrases}


def test_no_day_at_night() -> None:
    assert not any(
        " day" in prompt for prompt in prompts(Composition((FOX,), by_phrase()["in the snow"], time="night"))
    )


def drawn(pool: Pool, *, plain: bool = False) -> list[Composition]:
    return [draw_composition(Random(f"{pool} {seed}"), pool, plain=plain) for seed in range(5000)]


def is_plain(composition: Composition) -> bool:
    return composition == Composition(composition.entities[:1], composition.scene)


def test_most_compositions_are_plain_and_every_relation_occurs() -> None:
    compositions = drawn("train")
    assert sum(map(is_plain, compositions)) / len(compositions) == pytest.approx(PLAIN, abs=0.03)
    named = Counter(
        value
        for shown in compositions
        for value in (shown.count, len(shown.entities), shown.size, shown.place, shown.time, shown.weather)
    )
    for value in (2, *SIZES, *PLACES, *TIMES, *WEATHERS):
        assert named[value] >= 50, value
    assert all(map(is_plain, drawn("train", plain=True)))


def test_a_composition_makes_sense() -> None:
    for shown in drawn("all"):
        assert shown.time is None or shown.time in shown.scene.times
        assert shown.weather is None or shown.weather in shown.scene.weathers
        assert shown.count == 1 or plural(shown.entities[0])
        words = [word for entity in shown.entities for word in set(entity.name.split())]
        assert len(set(words)) == len(words), "of two entities with a word in common, whose would it be?"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("polar bear", "polar bears"),
        ("fox", "foxes"),
        ("strawberry", "strawberries"),
        ("monkey", "monkeys"),
        ("peach", "peaches"),
        ("wine glass", "wine glasses"),
        ("tomato", "tomatoes"),
        ("piano keyboard", "piano keyboards"),
        ("scissors", None),
        ("glass of milk", None),
        ("wolf", None),
        ("octopus", None),
        ("mount fuji", None),
    ],
)
def test_plurals(name: str, expected: str | None) -> None:
    assert plural(by_name()[name]) == expected


def test_most_entities_have_a_plural_that_ends_in_s() -> None:
    plurals = {entity: plural(entity) for entity in entities()}
    assert sum(word is not None for word in plurals.values()) > 600
    assert all(word.endswith("s") and word != entity.name for entity, word in plurals.items() if word)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.phrase)
def test_words_of_relations_name_no_entity(scene: Scene) -> None:
    said = {
        word
        for phrases in (SIZES, PLACES, TIMES, WEATHERS)
        for each in phrases.values()
        for p in each
        for word in p.split()
    }
    names = {entity.name for entity in entities()}
    assert not names & said
