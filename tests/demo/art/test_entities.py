import hashlib
from collections import defaultdict

import pytest

from reimagen_demo.art.entities import Entity, entities, of_split


def kin(entity: Entity) -> str:
    """Return the kind of an entity, by its name's head: an old key is a key, a cow face a cow."""
    head = entity.name.removesuffix(" face")
    for joint in (" of ", " with "):
        head = head.split(joint)[0]
    return head.split()[-1]


def test_a_tenth_is_held_out() -> None:
    assert len(of_split("held-out")) / len(entities()) == pytest.approx(0.1, abs=0.01)


def test_every_entity_is_in_one_split() -> None:
    assert {*of_split("train"), *of_split("held-out")} == {*entities()}
    assert not {*of_split("train")} & {*of_split("held-out")}


def test_whole_families_are_held_out() -> None:
    splits = defaultdict(set)
    for entity in entities():
        splits[entity.family].add(entity.split)
    whole = {family for family, sides in splits.items() if sides == {"held-out"}}
    assert whole == {"animal-marine", "musical-instrument", "science"}


def test_single_entities_of_other_families_are_held_out_too() -> None:
    families = {entity.family for entity in of_split("train")}
    assert sum(entity.family in families for entity in of_split("held-out")) >= 30


def test_no_relative_of_a_held_out_entity_is_trained_on() -> None:
    """Having seen cows' faces in training, drawing a cow would prove little."""
    families = {entity.family for entity in of_split("train")}
    held_out = {kin(entity) for entity in of_split("held-out") if entity.family in families}
    assert not held_out & {kin(entity) for entity in of_split("train")}


def test_the_split_equals_that_of_the_shipped_weights() -> None:
    codes = "\n".join(sorted(entity.code for entity in of_split("held-out")))
    assert (
        hashlib.sha256(codes.encode()).hexdigest() == "b972399bc08779cf9a7f0024a99e40fa12bd4c1dda3721f47af5c51c3e0e3258"
    )


def test_names_and_codes_are_unique() -> None:
    assert len({entity.name for entity in entities()}) == len(entities())
    assert len({entity.code for entity in entities()}) == len(entities())


@pytest.mark.parametrize(
    ("phrase", "name"),
    [("a polar bear", "polar bear"), ("an octopus", "octopus"), ("scissors", "scissors"), ("antlers", "antlers")],
)
def test_a_name_is_the_phrase_without_its_article(phrase: str, name: str) -> None:
    assert Entity("0", phrase, "family", "train").name == name


def test_articles_agree() -> None:
    by_sound = {
        "an x-ray film",
        "a ewe",
        "a one-humped camel",
        "a one-piece swimsuit",
        "a euro banknote",
        "a unicorn",
        "an hourglass",
    }
    for entity in entities():
        if entity.phrase != entity.name and entity.phrase not in by_sound:
            assert entity.phrase.startswith("an ") == (entity.name[0].lower() in "aeiou"), entity.phrase
