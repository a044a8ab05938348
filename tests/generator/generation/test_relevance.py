"""The filter of neighbors by the words of the prompt."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_generator.generation.relevance import relevant


@dataclass(frozen=True)
class Found:
    caption: str


def kept(prompt: str, *texts: str) -> list[str]:
    return [found.caption for found in relevant(prompt, [Found(text) for text in texts])]


@pytest.mark.parametrize(
    ("prompt", "texts", "left"),
    [
        ("a fox in the snow", ["a fox", "a plum"], ["a fox"]),
        ("a fox in the snow", ["a plum", "a fox"], ["a fox"]),
        ("a fox and a plum", ["a fox", "a plum"], ["a fox", "a plum"]),
        ("a fox and a plum", ["a fox", "a plum", "a fox", "a hat"], ["a fox", "a plum", "a fox"]),
        ("two foxes and the wolves", ["a fox", "a wolf"], ["a fox", "a wolf"]),
        ("a two-humped camel", ["a two-humped camel", "a camel"], ["a two-humped camel"]),
        ("a camel", ["a camel", "a two-humped camel"], ["a camel"]),
        ("a car with a roof", ["a car", "the carpet with a stain"], ["a car"]),
        ("a puppy", ["a young dog", "a plum", "a young dog"], ["a young dog", "a young dog"]),
        ("a fox", [], []),
        # Short words, and scripts without spaces.
        ("a yak and an elk by a PC", ["a yak", "an elk", "a PC"], ["a yak", "an elk", "a PC"]),
        ("an emu and two oxen", ["an emu", "an ox", "a man"], ["an emu", "an ox"]),
        ("a cat", ["a cat", "a catalogue"], ["a cat"]),
        ("狐と猫", ["狐", "猫", "犬"], ["狐", "猫"]),
        ("แมวกับหมา", ["แมว", "หมา", "ปลา"], ["แมว", "หมา"]),
        ("a cre\u0300me caramel", ["crème"], ["crème"]),
        ("🦊 and 🐻", ["🦊", "🐻", "🍋"], ["🦊", "🐻"]),
    ],
)
def test_neighbors_that_name_a_new_word_of_the_prompt_stay(prompt: str, texts: list[str], left: list[str]) -> None:
    assert kept(prompt, *texts) == left


words = st.lists(st.sampled_from(["fox", "plum", "wolf", "wolves", "red", "hat", "the", "a"]), max_size=6).map(" ".join)


@given(words, st.lists(words, max_size=6))
def test_filtering_keeps_at_least_one_and_the_order(prompt: str, texts: list[str]) -> None:
    left = kept(prompt, *texts)
    assert left == [text for text in texts if text in left]
    assert bool(left) == bool(texts)
    assert kept(prompt, *left) == left
