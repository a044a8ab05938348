"""Negative prompts: what they lead away from, by identities between guidance strategies."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from reimagen_generator.config.cascade import Strategy
from reimagen_generator.config.presets import TINY
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder

PROMPT, OTHER = "a kea in the snow", "a red fox"
PAIRS = [ReferencePair(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3), "a kea")]


def cascade(dropped_text: DroppedText) -> Cascade:
    """Return the tiny cascade's first stage, every weight of which is random."""
    rng = np.random.default_rng(5)
    network = build_network(TINY.stages[0].network, nnx.Rngs(0))
    state = nnx.state(network, nnx.Param)
    nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))
    config = TINY.model_copy(update={"stages": TINY.stages[:1], "dropped_text": dropped_text})
    return Cascade(config, [network], HashedNgramEncoder())


@pytest.fixture(scope="module", params=list(DroppedText))
def tiny(request: pytest.FixtureRequest) -> Cascade:
    return cascade(request.param)


def draw(tiny: Cascade, negative_prompt: str | None, pairs: list[ReferencePair] = PAIRS, **guidance: Any) -> np.ndarray:
    resolved = tiny.resolve_guidance(GuidanceOptions(**guidance), 16)
    *_, drawn = tiny.draw(PROMPT, pairs, seeds=[7], size=16, guidance=resolved, negative_prompt=negative_prompt)
    assert isinstance(drawn, ImagesEvent)
    return drawn.images.astype(int)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether images differ by rounding at most."""
    return bool(np.abs(one - other).max() <= 1)


TEXT_ALONE: dict[str, Any] = {"neighbor_weight": 1.0, "interleave_ratio": 1.0}


@pytest.mark.parametrize("strategy", [Strategy.WEIGHTED, Strategy.INTERLEAVED])
def test_it_replaces_no_text_where_the_text_is_enhanced(tiny: Cascade, strategy: Strategy) -> None:
    """W ε(c_p, c_n) - (w - 1) ε(c_neg, c_n) is ε(c_p, c_n) for the negative prompt p."""
    guided: dict[str, Any] = {"strategy": strategy, "text_weight": 4.0, **TEXT_ALONE}
    plain = draw(tiny, None, strategy=strategy, text_weight=1.0, **TEXT_ALONE)
    assert same(draw(tiny, PROMPT, **guided), plain)
    drawn = [draw(tiny, negative, **guided) for negative in (None, OTHER, PROMPT)]
    assert not any(same(drawn[one], drawn[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("strategy", [Strategy.WEIGHTED, Strategy.INTERLEAVED])
def test_it_changes_nothing_where_the_neighbors_are_enhanced(tiny: Cascade, strategy: Strategy) -> None:
    guided: dict[str, Any] = {"strategy": strategy, "neighbor_weight": 3.0, "text_weight": 1.0, "interleave_ratio": 0.0}
    assert (draw(tiny, OTHER, **guided) == draw(tiny, None, **guided)).all()


def test_in_joint_guidance_it_replaces_no_text_without_neighbors(tiny: Cascade) -> None:
    """W ε(c_p, c_n) - (w - 1) ε(c_neg) is the guidance of the neighbors alone for the negative prompt p."""
    joint = draw(tiny, PROMPT, strategy=Strategy.JOINT, text_weight=3.0)
    neighbors = draw(tiny, None, strategy=Strategy.WEIGHTED, neighbor_weight=3.0, text_weight=1.0, interleave_ratio=0.0)
    assert same(joint, neighbors)
    assert not same(joint, draw(tiny, None, strategy=Strategy.JOINT, text_weight=3.0))


def test_an_image_without_neighbors_is_led_away_from_it(tiny: Cascade) -> None:
    plain = draw(tiny, None, [], text_weight=1.0)
    assert same(draw(tiny, PROMPT, [], text_weight=4.0), plain)
    assert not same(draw(tiny, OTHER, [], text_weight=4.0), plain)


def test_a_weight_of_1_ignores_it(tiny: Cascade) -> None:
    assert (draw(tiny, OTHER, strategy=Strategy.JOINT, text_weight=1.0) == draw(tiny, None, text_weight=1.0)).all()


def test_rows_with_and_without_one_share_a_batch(tiny: Cascade) -> None:
    guidance = tiny.resolve_guidance(GuidanceOptions(strategy=Strategy.JOINT, text_weight=4.0), 16)
    stages = [tiny.config.stages[0].model_copy(update={"guidance": guidance[0]})]
    rows = [Row(PROMPT, PAIRS, 7, negative) for negative in (None, OTHER, "", PROMPT)]
    (together,) = tiny.draw_rows(rows, stages, 2, [True])
    for row, image in zip(rows, together, strict=True):
        ((alone,),) = tiny.draw_rows([row], stages, 2, [True])
        assert same(image.astype(int), alone.astype(int))
    assert same(together[0].astype(int), together[2].astype(int))
