"""A stage that draws points of a mixture with an exact network: the real loop, compared with the truth."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_evaluation.mixture import POINTS, ExactNetwork, Mixture, conditions
from reimagen_generator.config.cascade import Guidance, SamplerKind, ScheduleKind, StageConfig, Strategy
from reimagen_generator.diffusion.conditions import Conditions
from reimagen_generator.diffusion.samplers.sampler import Images
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Text

KEYS = jax.vmap(jax.random.key)(jnp.arange(6))


def config(**changes: Any) -> StageConfig:
    fields: dict[str, Any] = {"size": 1, "network": POINTS, "prediction": "epsilon", "steps": 9, **changes}
    return StageConfig(**fields)


class Counting(ExactNetwork):
    """An exact network that records compiled row counts, and returns a variance for rows with both conditions."""

    def __init__(self, stage: StageConfig, rows: list[int]) -> None:
        super().__init__(stage, Mixture.example())
        self.rows = rows.append

    def __call__(self, x: Images, time: Any, text: Text, neighbors: Any = None, low_resolution: Any = None) -> Images:
        self.rows(len(x))
        epsilon = super().__call__(x, time, text, neighbors, low_resolution)
        if not self.stage.network.learned_variance:
            return epsilon
        knows = text.mask.any(axis=1) & neighbors.mask.any(axis=1)
        return jnp.concatenate([epsilon, jnp.where(knows, -1.0, jnp.nan)[:, None, None, None] + 0 * x], axis=-1)


@cache
def drawn(stage: StageConfig, guidance: Guidance) -> tuple[np.ndarray, list[int]]:
    """Return the images, and the numbers of rows for which each step function was compiled."""
    rows: list[int] = []
    *_, (_, last) = Stage(stage, Counting(stage, rows), None).sample(conditions(len(KEYS)), guidance, KEYS)
    return np.asarray(last.x), sorted(rows)


WEIGHTED = Guidance(strategy=Strategy.WEIGHTED, text_weight=2.0, neighbor_weight=1.5)


@pytest.mark.parametrize(("sampler", "interval"), [(SamplerKind.DDPM, None), (SamplerKind.UNIPC, (-3.0, 3.0))])
def test_the_compiled_loop_and_single_steps_draw_the_same(sampler: SamplerKind, interval: Any) -> None:
    stage = Stage(config(sampler=sampler), ExactNetwork(config(), Mixture.example()), None)
    guidance = WEIGHTED.model_copy(update={"interval": interval})
    *_, (_, last) = stage.sample(conditions(len(KEYS)), guidance, KEYS)
    at_once = stage.sample_at_once(conditions(len(KEYS)), guidance, KEYS)
    np.testing.assert_allclose(at_once, last.x, atol=1e-5)
    # α is 1 and σ is 0, but the compiler chooses whether a product and a sum are rounded once or twice: 2 ULP with AMX.
    np.testing.assert_array_max_ulp(last.x, last.x_0, 2)


def test_outside_the_interval_a_step_evaluates_once() -> None:
    everywhere, rows = drawn(config(), WEIGHTED)
    assert rows == [3 * len(KEYS)]
    banded, rows = drawn(config(), WEIGHTED.model_copy(update={"interval": (-2.0, 2.0)}))
    assert rows == [len(KEYS), 3 * len(KEYS)]
    nowhere, rows = drawn(config(), WEIGHTED.model_copy(update={"interval": (90.0, 91.0)}))
    assert rows == [len(KEYS)]
    np.testing.assert_allclose(nowhere, drawn(config(), Guidance())[0], atol=1e-6)
    assert np.abs(banded - everywhere).max() > 1e-3
    assert np.abs(banded - nowhere).max() > 1e-3


def test_other_numbers_of_steps_use_the_same_compiled_step() -> None:
    rows: list[int] = []
    stage = Stage(config(), Counting(config(), rows), None)
    configs = [stage.config.with_steps(factor) for factor in (1, 0.5, 2, 0.01)]
    taken = [len(list(stage.with_config(each).sample(conditions(len(KEYS)), WEIGHTED, KEYS))) for each in configs]
    assert taken == [9, 4, 18, 1]
    assert rows == [3 * len(KEYS)]


@settings(deadline=None)
@given(
    respacing=st.lists(st.integers(0, 30), min_size=1, max_size=10).filter(any),
    share=st.floats(0, 1, exclude_min=True),
)
def test_a_number_of_steps_is_spread_like_the_sections(respacing: list[int], share: float) -> None:
    stage = config(schedule=ScheduleKind.COSINE_BETAS, steps=sum(respacing), timestep_respacing=tuple(respacing))
    assert stage.with_step_count(stage.steps) == stage
    assert stage.most_steps == sum(map(bool, respacing)) * (1000 // len(respacing))
    count = max(1, round(share * stage.most_steps))
    changed = StageConfig.model_validate(stage.with_step_count(count).model_dump())
    spread = changed.timestep_respacing
    assert spread is not None
    assert (changed.steps, sum(spread)) == (count, count)
    most = 1000 // len(respacing)
    for before, after in zip(respacing, spread, strict=True):
        wanted = count * before / stage.steps
        assert after == 0 if before == 0 else after <= most
        # Sections that are full leave their steps to the others.
        assert after >= min(most, int(wanted)) - 1 or max(spread) == most


def test_timestep_respacing_scales_each_section() -> None:
    stage = config(schedule=ScheduleKind.COSINE_BETAS, steps=107, timestep_respacing=(7, 0, 0, 0, 100))
    for factor, respacing in ((0.5, (4, 0, 0, 0, 50)), (0.01, (1, 0, 0, 0, 1)), (3, (21, 0, 0, 0, 200))):
        scaled = stage.with_steps(factor)
        assert (scaled.timestep_respacing, scaled.steps) == (respacing, sum(respacing))
        assert StageConfig.model_validate(scaled.model_dump()) == scaled


LEARNED = POINTS.model_copy(update={"learned_variance": True})


@pytest.mark.parametrize("sampler", [SamplerKind.DDPM, SamplerKind.DDIM])
def test_ddpm_alone_uses_the_learned_variance_of_the_conditioned_row(sampler: SamplerKind) -> None:
    """At -1 everywhere, the learned variance equals the fixed one; that of the other rows is NaN."""
    # v, since x_0 from epsilon would divide the rounding of two differently compiled steps by α, which is 0 at t = 1.
    fixed = config(sampler=sampler, prediction="v")
    learned, _ = drawn(config(sampler=sampler, prediction="v", network=LEARNED), WEIGHTED)
    np.testing.assert_allclose(learned, drawn(fixed, WEIGHTED)[0], atol=1e-5)


class ReadsTokens(ExactNetwork):
    """An exact network that reads zero tokens as no text."""

    def __call__(self, x: Images, time: Any, text: Text, neighbors: Any = None, low_resolution: Any = None) -> Images:
        return super().__call__(x, time, Text(text.tokens, text.tokens[..., 0] > 0), neighbors, low_resolution)


def test_a_redrawn_image_is_closer_with_less_noise() -> None:
    fits = jnp.ones(2, bool)
    mixture = Mixture(jnp.asarray([[0.4] * 3, [-0.4] * 3]), jnp.full(2, 0.05), fits, fits)
    stage = Stage(config(), ExactNetwork(config(), mixture), None)
    images = jnp.full((len(KEYS), 1, 1, 3), 0.4)

    def moved(time: float) -> float:
        return float(jnp.abs(stage.redraw(images, time, conditions(len(KEYS)), Guidance(), KEYS) - images).mean())

    assert moved(0.12) < 0.1
    assert moved(1.0) > 0.2
    *_, (_, last) = stage.sample(conditions(len(KEYS)), Guidance(), KEYS)
    np.testing.assert_allclose(stage.redraw(images, 1.0, conditions(len(KEYS)), Guidance(), KEYS), last.x, atol=1e-2)
    with pytest.raises(ValueError, match=r"^time: must be at least 0\.111, the last step's, got 0\.1"):
        moved(0.1)


def test_dropping_a_text_by_embedding_or_mask_is_equivalent() -> None:
    batch = len(KEYS)
    masked = conditions(batch)
    there = jnp.ones((batch, 1), bool)
    text, empty = Text(jnp.ones((batch, 1, 1)), there), Text(jnp.zeros((batch, 1, 1)), there)
    replaced = Conditions(text, masked.neighbors, None, empty)
    by_mask, by_embedding = (
        Stage(config(), network(config(), Mixture.example()), None).sample_at_once(used, WEIGHTED, KEYS)
        for network, used in ((ExactNetwork, masked), (ReadsTokens, replaced))
    )
    np.testing.assert_allclose(by_embedding, by_mask, atol=1e-6)


def test_rows_of_one_batch_have_their_own_guidance() -> None:
    stage = Stage(config(), ExactNetwork(config(), Mixture.example()), None)
    guidances = [WEIGHTED, Guidance(), WEIGHTED.model_copy(update={"interval": (-2.0, 2.0)})]
    each = [guidances[row % 3] for row in range(len(KEYS))]
    mixed = stage.sample_at_once(conditions(len(KEYS)), each, KEYS)
    for number, guidance in enumerate(guidances):
        alone = stage.sample_at_once(conditions(len(KEYS)), guidance, KEYS)
        np.testing.assert_allclose(mixed[number::3], alone[number::3], atol=1e-5)


def test_rows_of_a_batch_can_be_at_different_steps() -> None:
    """Odd rows are one step behind; each row ends as it does in step with the others."""
    stage = Stage(config(), ExactNetwork(config(), Mixture.example()), None)
    state, plan = stage.start(conditions(len(KEYS)), WEIGHTED, KEYS)
    behind = np.arange(len(KEYS)) % 2
    last = len(plan.evaluations) - 1
    state = ahead = stage.advance(state, plan.together(0), 3)
    reset = stage.start(conditions(len(KEYS)), WEIGHTED, KEYS)[0]
    merged = jax.tree.map(
        lambda new, old: jnp.where(behind.reshape(-1, *[1] * (new.ndim - 1)) == 1, old, new),
        (ahead.x, ahead.carry),
        (reset.x, reset.carry),
    )
    state = replace(ahead, x=merged[0], carry=merged[1])
    for step in range(1, last + 1):
        state = stage.advance(state, plan.at(step - behind), 3)
    even = state.x
    odd = stage.advance(state, plan.together(last), 3).x
    *_, (_, together) = stage.sample(conditions(len(KEYS)), WEIGHTED, KEYS)
    np.testing.assert_allclose(even[::2], together.x[::2], atol=1e-5)
    np.testing.assert_allclose(odd[1::2], together.x[1::2], atol=1e-5)


def test_sampling_with_integer_timesteps_reaches_the_data() -> None:
    """50 points of the components that fit both conditions are each near the mean of one of them."""
    stage = config(
        schedule=ScheduleKind.COSINE_BETAS, steps=27, timestep_respacing=(7, 4, 2, 1, 2, 4, 7), sampler="ddpm"
    )
    mixture = Mixture.example()
    keys = jax.vmap(jax.random.key)(jnp.arange(50))
    points = Stage(stage, ExactNetwork(stage, mixture), None).sample_at_once(conditions(50), Guidance(), keys)
    fits = np.asarray(mixture.fits_text & mixture.fits_neighbors)
    distance = np.linalg.norm(np.asarray(points)[:, 0, 0, None] - np.asarray(mixture.means)[fits], axis=-1)
    assert (distance.min(axis=1) < 5 * float(mixture.deviations.max())).all()
    assert set(distance.argmin(axis=1)) == {0, 1}
