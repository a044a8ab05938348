from collections import Counter

import pytest

from reimagen_demo.art.icons import STYLES
from reimagen_demo.art.made_up import is_made_up
from reimagen_demo.art.pairs import STYLE_NAMES
from reimagen_demo.data.recipes import FIRST_SAME_STYLE, SAME_STYLE, UNRELATED, Recipe, make_recipe


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    return [make_recipe(3, "train", number, plain=False, references=True) for number in range(3000)]


def test_a_recipe_depends_only_on_its_seed_and_number(recipes: list[Recipe]) -> None:
    assert make_recipe(3, "train", 17, plain=False, references=True) == recipes[17]
    assert make_recipe(4, "train", 17, plain=False, references=True) != recipes[17]


def test_each_object_has_one_to_three_references(recipes: list[Recipe]) -> None:
    for recipe in recipes:
        of_things = [reference.thing for reference in recipe.references if reference.thing is not None]
        counts = Counter(of_things)
        assert set(counts) == set(range(len(recipe.styles)))
        assert max(counts.values()) <= 3
        assert set(of_things[: len(recipe.styles)]) == set(counts)
        for reference in recipe.references:
            if reference.thing is not None:
                assert reference.entity == recipe.composition.entities[reference.thing]


def test_all_varied_references_of_an_object_are_mirrored_alike(recipes: list[Recipe]) -> None:
    for recipe in recipes:
        for reference in recipe.references:
            if reference.thing is not None:
                assert reference.mirrored == recipe.flipped[reference.thing]
            assert reference.varied or not reference.mirrored
    assert 0.2 < sum(recipe.flipped[0] for recipe in recipes) / len(recipes) < 0.4


def test_distractors_are_rare_and_named_by_no_prompt(recipes: list[Recipe]) -> None:
    unrelated = [(recipe, each) for recipe in recipes for each in recipe.references if each.thing is None]
    assert len(unrelated) / len(recipes) == pytest.approx(UNRELATED, abs=0.02)
    assert all(each.entity not in recipe.composition.entities for recipe, each in unrelated)


def test_nearly_all_first_references_and_most_others_have_the_style_of_their_object(recipes: list[Recipe]) -> None:
    first: list[bool] = []
    others: list[bool] = []
    for recipe in recipes:
        seen = set()
        for each in recipe.references:
            if each.thing is not None and not is_made_up(each.entity):
                (others if each.thing in seen else first).append(each.style == recipe.styles[each.thing])
                seen.add(each.thing)
    assert sum(first) / len(first) == pytest.approx(FIRST_SAME_STYLE, abs=0.02)
    assert sum(others) / len(others) == pytest.approx(SAME_STYLE, abs=0.03)


def test_plain_recipes_have_references_like_the_base() -> None:
    for number in range(100):
        recipe = make_recipe(0, "held-out", number, plain=True, references=True)
        assert recipe.composition.is_plain
        assert recipe.composition.entities[0].split == "held-out"
        assert recipe.references
        assert not any(reference.varied for reference in recipe.references)


def test_the_image_of_a_sample_does_not_depend_on_its_references() -> None:
    bare = make_recipe(0, "train", 5, plain=False, references=False)
    full = make_recipe(0, "train", 5, plain=False, references=True)
    assert (bare.prompt, bare.composition, bare.styles) == (full.prompt, full.composition, full.styles)
    assert bare.references == ()


def test_the_styles_equal_those_of_the_art() -> None:
    assert tuple(style.name for style in STYLES) == STYLE_NAMES


def test_one_in_seven_training_samples_shows_a_made_up_object(recipes: list[Recipe]) -> None:
    made_up = [any(map(is_made_up, recipe.composition.entities)) for recipe in recipes]
    assert 0.11 < sum(made_up) / len(made_up) < 0.19
    for number in range(300):
        recipe = make_recipe(0, "held-out", number, plain=False, references=True)
        assert all(entity.split == "held-out" for entity in recipe.composition.entities)
    for recipe in recipes:
        for reference in recipe.references:
            assert reference.entity.split == "train"
            assert reference.varied or not is_made_up(reference.entity)
