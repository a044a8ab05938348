"""Batches of different prompts against the served cascade, on a tiny one with random weights."""

from pathlib import Path

import numpy as np
import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.drawing import BatchDrawer, seed_of
from reimagen_evaluation.setting import Setting, StageChange
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.diffusion.references import ReferencePair

KEA = ReferencePair(np.full((30, 20, 3), 200, np.uint8), "a kea")
FOX = ReferencePair(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8), "a fox")


@pytest.fixture(scope="module")
def drawer(learned: Path) -> BatchDrawer:
    return BatchDrawer.load(learned)


def test_a_batch_row_equals_a_row_drawn_alone(learned: Path, drawer: BatchDrawer) -> None:
    rows = [Row("a kea in the snow", [KEA, FOX], 7), Row("a fox", [FOX], 2**32 - 1), Row("a kea", [KEA], 0)]
    stages = {size: StageChange(interleave_ratio=0.25, text_weight=3.0) for size in (16, 32)}
    setting = Setting(weights=learned, size=64, neighbors="references", k=2, stages=stages)
    small, medium, large = drawer.draw(rows, setting)
    assert (small.shape, medium.shape, large.shape) == ((3, 16, 16, 3), (3, 32, 32, 3), (3, 64, 64, 3))
    cascade = Cascade.load(learned)
    guidance = cascade.resolve_guidance(GuidanceOptions(text_weight=3.0, interleave_ratio=0.25), 64)
    for row, image in zip(rows, large, strict=True):
        *_, alone = cascade.draw(row.prompt, row.neighbors, seeds=[row.seed], size=64, guidance=guidance)
        assert isinstance(alone, ImagesEvent)
        # Batches of another size are compiled separately, and can round differently.
        assert np.abs(alone.images[0].astype(int) - image).max() <= 1
    assert (large[0] != large[2]).any()


def test_an_ungrounded_stage_draws_without_neighbors(learned: Path, drawer: BatchDrawer) -> None:
    row = Row("a kea", [KEA], 5)
    grounded = Setting(weights=learned, size=32, neighbors="references", k=1)
    blind = grounded.model_copy(update={"stages": {size: StageChange(grounded=False) for size in (16, 32)}})
    assert (drawer.draw([row], blind)[-1] == drawer.draw([Row("a kea", [], 5)], grounded)[-1]).all()
    assert (drawer.draw([row], grounded)[-1] != drawer.draw([row], blind)[-1]).any()


def test_a_setting_has_its_own_steps(learned: Path, drawer: BatchDrawer) -> None:
    base = Setting(weights=learned, size=16)
    more = base.model_copy(update={"stages": {16: StageChange(steps=5)}})
    assert [stage.steps for stage in more.change(drawer.config)] == [5]
    within = base.model_copy(update={"stages": {16: StageChange(interval=(-3.0, 2.0))}})
    assert [stage.guidance.interval for stage in within.change(drawer.config)] == [(-3.0, 2.0)]
    row = Row("a kea", [], 1)
    assert (drawer.draw([row], base)[0] != drawer.draw([row], more)[0]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size: cascade 'tiny' has stages of 16, 32, 64, none of 48"),
        ({"stages": {128: StageChange(steps=3)}}, "none of 128"),
        ({"stages": {16: StageChange(interval=(1.0, -1.0))}}, "stages.16.*interval: the first log-SNR must be below"),
        ({"stages": {16: StageChange(sampler="unipc", text_weight=2)}}, "stages.16.*interleaved changes from step"),
    ],
)
def test_impossible_settings_of_a_cascade_are_refused_by_name(
    learned: Path, drawer: BatchDrawer, changes: dict[str, object], message: str
) -> None:
    setting = Setting(weights=learned, size=16).model_copy(update=changes)
    with pytest.raises(InvalidArgument, match=message):
        setting.change(drawer.config)


def test_rows_with_and_without_neighbors_share_a_batch(learned: Path, drawer: BatchDrawer) -> None:
    """Without neighbors guidance is joint; each row has its own."""
    setting = Setting(weights=learned, size=32, neighbors="references", k=1, stages={16: StageChange(text_weight=3.0)})
    rows = [Row("a", [KEA], 1), Row("b", [], 1)]
    both = drawer.draw(rows, setting)[-1].astype(int)
    for row, image in zip(rows, both, strict=True):
        assert np.abs(drawer.draw([row], setting)[-1][0] - image).max() <= 1


def test_seeds_depend_on_item_and_sample_only() -> None:
    """Recorded seeds, so that measured results can be drawn again."""
    assert (seed_of("0001", 0), seed_of("0001", 1)) == (3444228570, 1346500974)
    assert 0 <= seed_of("beagle", 3) < 2**32
