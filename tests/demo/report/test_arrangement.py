"""The check of how two objects are arranged, on known placements."""

import numpy as np
import pytest

from reimagen_demo.report.arrangement import is_right

LEFT, RIGHT = (0.25, 0.6, 0.4), (0.75, 0.62, 0.4)
UP, DOWN = (0.5, 0.25, 0.4), (0.52, 0.75, 0.4)
FAR, NEAR = (0.45, 0.5, 0.3), (0.55, 0.55, 0.5)


@pytest.mark.parametrize(
    ("layout", "true", "exchanged"),
    [
        ("order of mention", (LEFT, RIGHT), (RIGHT, LEFT)),
        ("right of", (RIGHT, LEFT), (LEFT, RIGHT)),
        ("above", (UP, DOWN), (DOWN, UP)),
        ("behind", (FAR, NEAR), (NEAR, FAR)),
        ("in front of", (NEAR, FAR), (FAR, NEAR)),
    ],
)
def test_exchanged_objects_are_wrong(layout: str, true: tuple[object, ...], exchanged: tuple[object, ...]) -> None:
    assert is_right(layout, np.array(true), np.array(true))
    assert is_right(layout, np.array(exchanged), np.array(true)) is False


def test_the_other_direction_does_not_matter() -> None:
    shifted = np.array([(0.2, 0.9, 0.3), (0.6, 0.3, 0.5)])
    assert is_right("left of", shifted, np.array([LEFT, RIGHT]))


def test_objects_too_close_to_tell_are_not_counted() -> None:
    assert is_right("order of mention", np.array([LEFT, RIGHT]), np.array([(0.45, 0.5, 0.4), (0.55, 0.5, 0.4)])) is None
