"""Guidance against the paper's formulas, computed independently in NumPy."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.config.cascade import Guidance, Strategy
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.networks.network import Text

WEIGHTS = st.floats(0, 100, width=32)
RATIOS = st.floats(0, 1, width=32)


def predictions(seed: int, images: int) -> dict[tuple[bool, bool], np.ndarray]:
    """Return ε of each image for each combination of text and neighbors."""
    rng = np.random.default_rng(seed)
    return {
        (text, neighbors): rng.standard_normal((images, 2, 2, 3)).astype(np.float32)
        for text in (False, True)
        for neighbors in (False, True)
    }


def guided(
    strategies: Sequence[guiding.RowGuidance], epsilon: dict[tuple[bool, bool], np.ndarray], r: np.ndarray
) -> tuple[int, np.ndarray]:
    """Return the number of evaluations of rows with these strategies, and the combined prediction."""
    steps = np.ones((len(strategies), 1), bool)
    rows = guiding.guidance_rows(strategies)
    (count,) = guiding.evaluations_of_steps(strategies, steps)
    keep = guiding.evaluations(rows, int(count), jnp.asarray(r))
    predicted = [
        [epsilon[bool(text), bool(neighbors)][i] for i, (text, neighbors) in enumerate(zip(texts, kept, strict=True))]
        for texts, kept in zip(np.asarray(keep.text), np.asarray(keep.neighbors), strict=True)
    ]
    guided = jnp.ones(len(strategies), bool)
    return int(count), np.asarray(guiding.combine(rows, guided, jnp.asarray(np.array(predicted)), jnp.asarray(r)))


@settings(deadline=None)  # the first example compiles
@given(text=WEIGHTS, neighbor=WEIGHTS, ratio=RATIOS, seed=st.integers(0, 1000))
def test_each_strategy_equals_the_papers_formula(text: float, neighbor: float, ratio: float, seed: int) -> None:
    epsilon = predictions(seed, 5)
    full, no_text, no_neighbors, neither = (
        epsilon[key].astype(np.float64) for key in ((True, True), (False, True), (True, False), (False, False))
    )
    r = np.random.default_rng(seed + 1).random(5).astype(np.float32)
    enhanced_text = text * full - (text - 1) * no_text
    enhanced_neighbors = neighbor * full - (neighbor - 1) * no_neighbors
    strategies: list[guiding.RowGuidance] = [
        guiding.Unguided(),
        guiding.Joint(text),
        guiding.Interleaved(text, neighbor, ratio),
        guiding.Weighted(text, neighbor, ratio),
    ]
    expected = [
        full,
        text * full - (text - 1) * neither,
        np.where((r < np.float32(ratio))[:, None, None, None], enhanced_text, enhanced_neighbors),
        ratio * enhanced_text + (1 - ratio) * enhanced_neighbors,
    ]
    for strategy, by_formula, evaluations in zip(strategies, expected, (1, 2, 2, 3), strict=True):
        count, result = guided([strategy] * 5, epsilon, r)
        assert count == evaluations
        np.testing.assert_allclose(result, by_formula, rtol=1e-4, atol=1e-3)
    # Rows of all strategies in one batch get what each gets alone.
    which = [seed % 4, 3, 1, 2, 0]
    count, result = guided([strategies[i] for i in which], epsilon, r)
    assert count == 3
    np.testing.assert_allclose(result, [expected[i][row] for row, i in enumerate(which)], rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(text=WEIGHTS, neighbor=WEIGHTS, ratio=RATIOS, seed=st.integers(0, 1000))
def test_the_two_outcomes_of_interleaved_average_to_weighted(
    text: float, neighbor: float, ratio: float, seed: int
) -> None:
    """The exact expectation at fixed x_t: R is below η with probability η."""
    epsilon = predictions(seed, 3)
    interleaved = [guiding.Interleaved(text, neighbor, ratio)] * 3
    below, above = np.zeros(3, np.float32), np.ones(3, np.float32)
    (_, enhances_text), (_, enhances_neighbors), (_, weighted) = (
        guided(strategies, epsilon, r)
        for strategies, r in (
            (interleaved, below if ratio > 0 else above),
            (interleaved, above),
            ([guiding.Weighted(text, neighbor, ratio)] * 3, above),
        )
    )
    np.testing.assert_allclose(ratio * enhances_text + (1 - ratio) * enhances_neighbors, weighted, rtol=1e-4, atol=1e-3)


def test_interleaved_equals_weighted_in_expectation() -> None:
    """The mean over many R at fixed x_t: the standard error of 20,000 draws is far below the tolerance."""
    one = predictions(3, 1)
    many = {key: np.repeat(value, 20_000, axis=0) for key, value in one.items()}
    r = np.asarray(jax.random.uniform(jax.random.key(0), (20_000,)))
    _, interleaved = guided([guiding.Interleaved(4.0, 4.0, 0.3)] * 20_000, many, r)
    _, weighted = guided([guiding.Weighted(4.0, 4.0, 0.3)], one, r[:1])
    np.testing.assert_allclose(interleaved.mean(axis=0), weighted[0], atol=0.15)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_weights_of_one_are_one_plain_evaluation(strategy: Strategy) -> None:
    guidance = Guidance(strategy=strategy, text_weight=1.0, neighbor_weight=1.0)
    assert guiding.resolve(guidance, neighbors=True) == guiding.Unguided()
    epsilon = predictions(0, 2)
    r = np.array([0.1, 0.9], np.float32)
    for used in (guiding.Unguided(), guiding.Joint(1.0), guiding.Weighted(1.0, 1.0, 0.5)):
        _, result = guided([used] * 2, epsilon, r)
        np.testing.assert_allclose(result, epsilon[True, True], atol=1e-6)


def test_without_neighbors_only_the_text_is_guided() -> None:
    guidance = Guidance(strategy=Strategy.INTERLEAVED, text_weight=2.0, neighbor_weight=1.0)
    assert guiding.resolve(guidance, neighbors=False) == guiding.Joint(2.0)
    assert guiding.resolve(guidance, neighbors=True) == guiding.Interleaved(2.0, 1.0, 0.5)


def test_steps_outside_the_interval_are_not_guided() -> None:
    log_snr = np.array([-9.0, -3.0, 0.0, 3.0, 9.0])
    assert guiding.guided_steps(Guidance(interval=(-3.0, 3.5)), log_snr).tolist() == [False, True, True, True, False]
    assert guiding.guided_steps(Guidance(), log_snr).all()
    with pytest.raises(ValueError, match="interval: the first log-SNR must be below the second"):
        Guidance(interval=(2.0, 2.0))


def test_a_dropped_text_is_masked_or_the_empty_texts_embedding() -> None:
    keep = jnp.asarray([True, False])
    text = Text(jnp.ones((2, 3, 4)), jnp.asarray([[True, True, False]] * 2))
    empty = Text(jnp.full((2, 3, 4), 7.0), jnp.asarray([[True, False, False]] * 2))
    masked = guiding.drop_text(text, keep, None)
    assert np.asarray(masked.mask).tolist() == [[True, True, False], [False, False, False]]
    replaced = guiding.drop_text(text, keep, empty)
    assert np.asarray(replaced.tokens)[:, 0, 0].tolist() == [1.0, 7.0]
    assert np.asarray(replaced.mask).tolist() == [[True, True, False], [True, False, False]]


def test_a_step_evaluates_as_often_as_its_most_demanding_row() -> None:
    rows: list[guiding.RowGuidance] = [
        guiding.Interleaved(2.0, 2.0, 0.5),
        guiding.Weighted(2.0, 2.0, 0.5),
        guiding.Unguided(),
    ]
    guided = np.array([[True, True, False], [False, True, False], [True, True, True]])
    assert guiding.evaluations_of_steps(rows, guided).tolist() == [2, 3, 1]
