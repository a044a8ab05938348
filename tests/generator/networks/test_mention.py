"""Positions of the prompt's tokens relative to the mentions of objects."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.networks.mention import POSITION_CHANNELS, mention_positions, without_special_tokens
from reimagen_generator.networks.network import Text

LENGTH = 24
EACH = (POSITION_CHANNELS - 2) // 3


def similarity(mentions: list[int | None]) -> np.ndarray:
    """Return similarities of 0.9 at each mention and of 0.3 elsewhere; None for a caption without mention."""
    rows = np.full((len(mentions), LENGTH), 0.3, np.float32)
    for row, mention in zip(rows, mentions, strict=True):
        if mention is not None:
            row[mention] = 0.9
    return rows


def sinusoids(position: float) -> np.ndarray:
    """Return the features of positions relative to one token, computed by complex numbers."""
    offsets = np.arange(LENGTH)[:, None] - position
    turns = np.exp(2j * np.pi * offsets / np.array([4, 8, 16, 32, 64]))
    return np.concatenate([turns.imag, turns.real], axis=1)


@settings(deadline=None)  # each number of mentions is compiled once
@given(st.lists(st.integers(0, LENGTH - 1), min_size=1, max_size=4, unique=True))
def test_tokens_know_their_object_and_the_nearest_others(mentions: list[int]) -> None:
    found = np.asarray(
        mention_positions(jnp.asarray(similarity(list(mentions)))[None], jnp.ones((1, len(mentions)), bool))
    )
    for features, own in zip(found[0], mentions, strict=True):
        before = max((other for other in mentions if other < own), default=None)
        after = min((other for other in mentions if other > own), default=None)
        expected = [sinusoids(own)]
        expected += [np.zeros((LENGTH, EACH)) if other is None else sinusoids(other) for other in (before, after)]
        expected += [np.full((LENGTH, 1), other is not None) for other in (before, after)]
        np.testing.assert_allclose(features, np.concatenate(expected, axis=1), atol=1e-3)


@pytest.mark.parametrize(
    ("mentions", "is_object"),
    [
        ([3, 12, 3], [True, True, False]),
        ([3, 12, 12], [True, True, False]),
        ([3, 12, None], [True, True, True]),
        ([3, 12, 20], [True, True, False]),
    ],
    ids=["the same again", "the other again", "not mentioned", "no object"],
)
def test_other_neighbors_are_not_objects(mentions: list[int | None], is_object: list[bool]) -> None:
    all_of_them = mention_positions(jnp.asarray(similarity(mentions))[None], jnp.asarray([is_object]))
    two = mention_positions(jnp.asarray(similarity(mentions[:2]))[None], jnp.ones((1, 2), bool))
    np.testing.assert_allclose(all_of_them[0, :2], two[0], atol=1e-5)


def test_special_tokens_are_the_first_and_the_last_of_each_text() -> None:
    mask = jnp.asarray([[True] * 5 + [False], [True] * 2 + [False] * 4, [True] * 6])
    inner = without_special_tokens(Text(jnp.zeros((3, 6, 4)), mask)).mask
    assert inner.tolist() == [
        [False, True, True, True, False, False],
        [False] * 6,
        [False, True, True, True, True, False],
    ]
