"""What is drawn together, and what a failure ends; over a real cascade."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np
import pytest
from prometheus_client import REGISTRY

from reimagen_common.errors import ReimagenError
from reimagen_generator.config.cascade import SamplerKind, Strategy
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.inputs import InputEncoder, Inputs, Row
from reimagen_generator.diffusion.options import DrawingOptions, GuidanceOptions, StepOptions, resolve
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps, SamplingState
from tests.engine_requests import Background, MakeEngine, Wish, images
from tests.waiting import SECONDS, wait_until

RED = ReferencePair(np.full((20, 30, 3), (255, 0, 0), np.uint8), "red")
STRIPES = ReferencePair(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3), "stripes")


def test_each_image_reports_its_steps_in_order_and_is_sent_when_it_is_finished(
    make_engine: MakeEngine, tiny: Cascade, wish: Wish
) -> None:
    engine = make_engine(tiny)
    size, seeds = tiny.sizes[-1], [1, 2, 3]
    background = Background(engine, replace(wish, size=size, seeds=seeds)).end()
    expected = [
        (stage, config.size, step, config.steps)
        for stage, config in enumerate(tiny.config.stages)
        for step in range(1, config.steps + 1)
    ]
    for index in range(len(seeds)):
        *steps, last = [event for event in background.events if event.index == index]
        reported = [(step.stage, step.size, step.step, step.steps) for step in steps if isinstance(step, StepEvent)]
        assert reported == expected
        assert isinstance(last, ImagesEvent)
        assert last.images.shape == (1, size, size, 3)
    assert (engine.counters.finished, engine.counters.steps) == (1, len(seeds) * len(expected))


WEIGHTED = GuidanceOptions(Strategy.WEIGHTED, 3.0, 2.0, 0.5)
INTERLEAVED = GuidanceOptions(Strategy.INTERLEAVED, 3.0, 2.0, 0.5)
WISHES = [
    Wish("a red panda", [RED], [7]),
    Wish("a kea", [STRIPES, RED], [1], size=32),
    Wish("a fox", [], [2, 3], size=64),
    Wish("stripes", [STRIPES], [4], guidance=WEIGHTED),
    Wish("stripes", [STRIPES, RED], [4], size=32, guidance=INTERLEAVED),
    Wish("a red fox", [RED], [8], guidance=GuidanceOptions(Strategy.JOINT, 4.0)),
    Wish("a red fox", [RED], [8], guidance=GuidanceOptions(Strategy.JOINT, 4.0), negative_prompt="a panda"),
    Wish("a red fox", [replace(RED, weight=3.0), STRIPES], [8]),
    *(
        Wish("a red fox", [RED], [9], guidance=WEIGHTED, steps=StepOptions(steps, sampler))
        for steps, sampler in enumerate(SamplerKind, start=3)
    ),
]
"""Requests that differ in everything in which the rows of a batch may differ."""


@pytest.mark.parametrize("largest_batch", [1, 4])
def test_an_image_depends_on_its_request_alone(make_engine: MakeEngine, tiny: Cascade, largest_batch: int) -> None:
    engine = make_engine(tiny, capacity=len(WISHES), largest_batch=largest_batch)
    backgrounds = [Background(engine, wish) for wish in WISHES]
    for wish, background in zip(WISHES, backgrounds, strict=True):
        options = DrawingOptions(wish.guidance, wish.steps)
        stages = [
            settings.steps.applied_to(stage).model_copy(update={"guidance": settings.guidance})
            for stage, settings in zip(tiny.config.stages, resolve(tiny.config, options, wish.size), strict=False)
        ]
        for seed, image in zip(wish.seeds, background.images(), strict=True):
            row = Row(wish.prompt, wish.neighbors, seed, wish.negative_prompt)
            slots = tiny.slots_for(len(wish.neighbors))
            *_, alone = tiny.draw_rows([row], stages, slots, [True] * len(stages))
            # Batches of another size round differently.
            assert np.abs(alone[0].astype(int) - image).max() <= (largest_batch > 1)
    drawn = {background.images().tobytes() for background in backgrounds}
    assert len(drawn) == len(WISHES)


def test_images_of_different_requests_share_batches(make_engine: MakeEngine, endless: Cascade, wish: Wish) -> None:
    def batches(size: int) -> float:
        labels = {"size": "16", "batch": str(size)}
        return REGISTRY.get_sample_value("reimagen_generator_step_seconds_count", labels) or 0

    before = batches(2)
    engine = make_engine(endless, largest_batch=2)
    first = Background(engine, wish)
    assert first.stepped.wait(SECONDS)
    assert batches(2) == before
    second = Background(engine, replace(wish, prompt="a kea", seeds=[2]))
    assert second.stepped.wait(SECONDS)
    steps = len(second.events)
    wait_until(lambda: len(second.events) > steps + 2)
    assert batches(2) > before
    for background in (first, second):
        background.call.cancel()
        background.end()


def test_nothing_usual_compiles_anew(make_engine: MakeEngine, tiny: Cascade, wish: Wish) -> None:
    engine = make_engine(tiny)
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **fields: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(f"{fields} took {duration_secs:.2f} s")

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for neighbors in ([], [RED], [RED] * tiny.config.default_k, [RED] * (tiny.config.default_k + 1)):
            for seeds in ([1], [1, 2]):
                images(engine, replace(wish, seeds=seeds, neighbors=neighbors, size=tiny.sizes[-1], previews=1))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


@pytest.mark.parametrize("previews", [0, 1, 2, 3])
def test_previews_are_as_many_as_requested(make_engine: MakeEngine, tiny: Cascade, wish: Wish, previews: int) -> None:
    background = Background(make_engine(tiny), replace(wish, seeds=[1, 2], size=64, previews=previews)).end()
    shown = [event for event in background.events if isinstance(event, StepEvent) and event.preview is not None]
    assert [step.index for step in shown] == [0] * previews
    assert all(step.preview is not None and step.preview.shape == (step.size, step.size, 3) for step in shown)


def test_a_small_image_does_not_wait_for_a_stranger_s_large_one(
    make_engine: MakeEngine, tiny: Cascade, wish: Wish
) -> None:
    engine = make_engine(tiny)
    large = Background(engine, replace(wish, size=64, steps_factor=200))
    assert large.stepped.wait(SECONDS)
    small = Background(engine, wish)
    small.images()
    assert not any(isinstance(event, ImagesEvent) for event in large.events)
    large.call.cancel()
    large.end()


class Brittle(InputEncoder):
    """Fails for one image of one prompt."""

    def encode(self, rows: Sequence[Row], slots: int) -> Inputs:
        if rows[0].prompt == "fail" and rows[0].seed == 2:
            raise RuntimeError("out of memory")
        return super().encode(rows, slots)


@pytest.mark.parametrize("largest_batch", [1, 4])
def test_a_failing_request_fails_alone(
    make_engine: MakeEngine, tiny: Cascade, wish: Wish, monkeypatch: pytest.MonkeyPatch, largest_batch: int
) -> None:
    monkeypatch.setattr(tiny, "inputs", Brittle(tiny.config, tiny.text_encoder, tiny.placer))
    engine = make_engine(tiny, largest_batch=largest_batch)
    failed = Background(engine, replace(wish, prompt="fail", seeds=[1, 2, 3])).end()
    assert type(failed.error) is ReimagenError
    assert failed.call.id in str(failed.error)
    assert images(engine, wish).shape == (1, 16, 16, 3)
    assert (engine.counters.failed, engine.counters.finished) == (1, 1)


def test_a_batch_that_fails_is_drawn_image_by_image(
    make_engine: MakeEngine, tiny: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tiny.stage(0)
    advance = stage.advance_rows

    def advance_one(states: Sequence[SamplingState], steps: Sequence[RowSteps], count: int) -> list[SamplingState]:
        if len(states) > 1:
            raise RuntimeError("out of memory")
        return advance(states, steps, count)

    engine = make_engine(tiny, largest_batch=2)
    monkeypatch.setattr(stage, "advance_rows", advance_one)
    assert images(engine, Wish(seeds=[1, 2])).shape == (2, 16, 16, 3)
