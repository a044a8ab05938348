from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from reimagen_demo.art.entities import by_name, entities
from reimagen_demo.data import prompts as wordings
from reimagen_demo.data.compositions import PLAIN, Composition, Thing, draw_composition
from reimagen_demo.data.frequency import Pool
from reimagen_demo.data.plurals import plural
from reimagen_demo.data.prompts import prompt_of
from reimagen_demo.scenes.registry import SCENES, by_phrase

MEADOW = by_phrase()["on a green meadow"]
FOX, VIOLIN, GRAPES, OWL = (by_name()[name] for name in ("fox", "violin", "grapes", "owl"))

KINDS: tuple[Mapping[Any, tuple[str, ...]], ...] = (
    wordings.SIZES,
    wordings.COLORS,
    wordings.PLACES,
    wordings.TURNS,
    wordings.RELATIONS,
    wordings.TIMES,
    wordings.WEATHERS,
)


def prompts(composition: Composition) -> set[str]:
    return {prompt_of(Random(seed), composition) for seed in range(900)}


@pytest.mark.parametrize(
    ("composition", "prompt"),
    [
        (Composition.plain(FOX, MEADOW), "a fox on a green meadow"),
        (Composition((Thing(FOX, 2),), MEADOW), "two foxes on a green meadow"),
        (Composition((Thing(FOX, 3, "tiny"),), MEADOW), "three tiny foxes on a green meadow"),
        (
            Composition((Thing(FOX, 2, turned="upside down"),), MEADOW),
            "a pair of foxes on their heads on a green meadow",
        ),
        (Composition((Thing(FOX, size="huge"),), MEADOW), "an enormous fox on a green meadow"),
        (Composition((Thing(GRAPES, size="huge"),), MEADOW), "huge grapes on a green meadow"),
        (Composition((Thing(FOX, size="tiny", color="blue"),), MEADOW), "a tiny bright blue fox on a green meadow"),
        (Composition((Thing(FOX, 2, color="white"),), MEADOW), "two all white foxes on a green meadow"),
        (Composition((Thing(FOX, place="left"),), MEADOW), "a fox on the left, on a green meadow"),
        (
            Composition((Thing(FOX, size="small", place="top left"),), MEADOW),
            "a little fox in the upper left corner, on a green meadow",
        ),
        (Composition((Thing(FOX, turned="upside down"),), MEADOW), "an upside-down fox, on a green meadow"),
        (Composition((Thing(FOX, turned="left"),), MEADOW), "on a green meadow, a fox leaning left"),
        (Composition((Thing(FOX, mirrored=True),), MEADOW), "a fox facing the other way on a green meadow"),
        (Composition((Thing(FOX),), MEADOW, time="night"), "a fox on a green meadow at night"),
        (Composition((Thing(FOX),), MEADOW, weather="fog"), "in fog, a fox on a green meadow"),
        (Composition((Thing(FOX), Thing(VIOLIN)), MEADOW), "a fox and a violin on a green meadow"),
        (
            Composition((Thing(FOX), Thing(VIOLIN, size="tiny")), MEADOW, "right of"),
            "a fox to the right of a miniature violin, on a green meadow",
        ),
        (
            Composition((Thing(FOX, place="right"), Thing(VIOLIN, place="left")), MEADOW),
            "a fox on the right and a violin on the left, on a green meadow",
        ),
        (Composition((Thing(FOX), Thing(VIOLIN), Thing(OWL)), MEADOW), "a fox, a violin and an owl on a green meadow"),
    ],
)
def test_a_prompt_names_the_content_of_its_image(composition: Composition, prompt: str) -> None:
    assert prompt in prompts(composition)


def test_a_plain_prompt_is_an_entity_in_a_scene() -> None:
    for scene in SCENES:
        assert prompts(Composition.plain(FOX, scene)) == {f"{FOX.phrase} {phrase}" for phrase in scene.phrases}


def test_scenes_use_training_wordings_by_default() -> None:
    for scene in SCENES:
        shown = Composition((Thing(FOX, size="tiny"),), scene)
        said = {prompt_of(Random(seed), shown, unseen=True) for seed in range(50)}
        assert all(any(phrase in prompt for phrase in scene.unseen) for prompt in said)
        assert not any(phrase in prompt for phrase in scene.unseen for prompt in prompts(shown))


def test_a_night_scene_states_no_day() -> None:
    shown = Composition((Thing(FOX),), by_phrase()["in the snow"], time="night")
    assert not any(" day" in prompt for prompt in prompts(shown))


def drawn(pool: Pool, *, plain: bool = False) -> list[Composition]:
    return [draw_composition(Random(f"{pool} {seed}"), pool, plain=plain) for seed in range(6000)]


def test_many_compositions_are_plain_and_all_statements_occur() -> None:
    compositions = drawn("train")
    assert PLAIN < sum(shown.is_plain for shown in compositions) / len(compositions) < PLAIN + 0.15
    named = Counter[object](
        value
        for shown in compositions
        for thing in shown.things
        for value in (thing.count, thing.size, thing.place, thing.color, ("turned", thing.turned), thing.mirrored)
    )
    named.update(value for shown in compositions for value in (shown.relation, shown.time, shown.weather))
    stated = [value for kind in KINDS if kind is not wordings.TURNS for value in kind]
    for value in (2, 3, *stated, *(("turned", turned) for turned in wordings.TURNS)):
        assert named[value] >= 25, value
    assert {len(shown.things) for shown in compositions} == {1, 2, 3}
    assert all(shown.is_plain for shown in drawn("train", plain=True))


def test_a_composition_is_consistent() -> None:
    for shown in drawn("all"):
        assert shown.time is None or shown.time in shown.scene.times
        assert shown.weather is None or shown.weather in shown.scene.weathers
        assert shown.relation is None or len(shown.things) == 2
        for thing in shown.things:
            assert thing.count == 1 or plural(thing.entity)
            assert not thing.color or not {"red", "green", "white"} & set(thing.entity.name.split())
            assert not (thing.size in ("large", "huge") and thing.place)
        words = [word for entity in shown.entities for word in set(entity.name.split())]
        assert len(set(words)) == len(words), "of two entities with a word in common, whose would it be?"


def test_statements_are_distinguished_by_their_words() -> None:
    for kinds in KINDS:
        said = [phrase for phrases in kinds.values() for phrase in phrases]
        assert len(set(said)) == len(said)
        assert all(len(set(phrases)) >= 2 for phrases in kinds.values())


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
def test_the_plurals_of_names(name: str, expected: str | None) -> None:
    assert plural(by_name()[name]) == expected


def test_most_entities_have_a_plural_that_ends_in_s() -> None:
    plurals = {entity: plural(entity) for entity in entities()}
    assert sum(word is not None for word in plurals.values()) > 600
    assert all(word.endswith("s") and word != entity.name for entity, word in plurals.items() if word)


def test_words_of_statements_name_no_entity() -> None:
    kinds = (
        wordings.SIZES,
        wordings.COLORS,
        wordings.PLACES,
        wordings.TURNS,
        wordings.RELATIONS,
        wordings.TIMES,
        wordings.WEATHERS,
    )
    said = {word for kind in kinds for phrases in kind.values() for phrase in phrases for word in phrase.split()}
    names = {entity.name for entity in entities()}
    assert not names & (said | {word for phrase in wordings.MIRRORED for word in phrase.split()})
