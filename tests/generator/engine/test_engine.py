"""What is drawn together, who is refused, and what ends; over a real cascade."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import numpy as np
import numpy.typing as npt
import pytest
from flax import nnx
from prometheus_client import REGISTRY

from reimagen_common.errors import DeadlineExceeded, Overloaded, ReimagenError, Unavailable
from reimagen_generator.config.cascade import Strategy
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade, GuidanceOptions
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.inputs import InputEncoder, Inputs, Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps, SamplingState
from reimagen_generator.engine import warm_up
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.work import GenerationTask, Work
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from tests.waiting import SECONDS, wait_until

NO_CHANGES = GuidanceOptions()
FOREVER = 1e6


@pytest.fixture(scope="session")
def tiny() -> Cascade:
    """A cascade whose every weight is random; newly built, its zero layers would ignore what they are given."""
    rng = np.random.default_rng(5)
    networks = [build_network(stage.network, nnx.Rngs(0)) for stage in TINY.stages]
    for network in networks:
        state = nnx.state(network, nnx.Param)
        nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))
    return Cascade(TINY, networks, HashedNgramEncoder())


@pytest.fixture(scope="session")
def endless() -> Cascade:
    """A cascade of so many steps that no image is finished within a test."""
    stage = TINY.stages[0].model_copy(update={"steps": 50_000})
    return Cascade.random(TINY.model_copy(update={"stages": (stage,)}), seed=0)


class MakeEngine(Protocol):
    def __call__(self, cascade: Cascade, *, capacity: int = 4, largest_batch: int = 1) -> Engine: ...


@pytest.fixture
def make_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeEngine]:
    """Start engines that use every batch size that they may, and stop them when the test ends."""
    engines: list[Engine] = []
    monkeypatch.setattr(warm_up, "_WORTHWHILE", float("inf"))

    def make(cascade: Cascade, *, capacity: int = 4, largest_batch: int = 1) -> Engine:
        engine = Engine(cascade, capacity=capacity, largest_batch=largest_batch)
        engine.start()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.stop(grace=0)


@dataclass(frozen=True)
class Wish:
    """What a request asks for."""

    prompt: str = "a red panda"
    neighbors: Sequence[ReferencePair] = ()
    seeds: Sequence[int] = (7,)
    size: int = 16
    previews: int = 0
    guidance: GuidanceOptions = NO_CHANGES
    steps_factor: float = 1.0
    caller: str = ""

    def work(self, cascade: Cascade) -> Work:
        return Work(
            images=len(self.seeds),
            size=self.size,
            neighbors=len(self.neighbors),
            guidance=cascade.resolve_guidance(self.guidance, self.size),
            steps_factor=self.steps_factor,
            caller=self.caller,
        )

    @property
    def task(self) -> GenerationTask:
        return GenerationTask(self.prompt, self.neighbors, self.seeds, self.previews)


@pytest.fixture
def wish() -> Wish:
    return Wish()


class Background:
    """A request on a thread of its own, as each API makes it."""

    def __init__(self, engine: Engine, wish: Wish, *, timeout: float = FOREVER) -> None:
        self.call = RequestHandle(timeout=timeout)
        self.admitted = threading.Event()
        self.stepped = threading.Event()
        self.ahead = -1
        self.events: list[StepEvent | ImagesEvent] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(engine, wish))
        self._thread.start()

    def _run(self, engine: Engine, wish: Wish) -> None:
        try:
            with engine.admit(self.call, wish.work(engine.cascade)) as admission:
                self.ahead = admission.ahead
                self.admitted.set()
                for event in admission.draw(wish.task):
                    self.events.append(event)
                    self.stepped.set()
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            self.error = error
        finally:
            self.admitted.set()
            self.stepped.set()

    def end(self) -> "Background":
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        return self

    def images(self) -> npt.NDArray[np.uint8]:
        """All images, in the order of the seeds."""
        self.end()
        assert self.error is None
        finished = {event.index: event.images for event in self.events if isinstance(event, ImagesEvent)}
        return np.concatenate([finished[index] for index in range(len(finished))])


def images(engine: Engine, wish: Wish) -> npt.NDArray[np.uint8]:
    return Background(engine, wish).images()


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
]
"""Requests that differ in everything in which the rows of a batch may differ."""


@pytest.mark.parametrize("largest_batch", [1, 4])
def test_an_image_depends_on_its_request_alone(make_engine: MakeEngine, tiny: Cascade, largest_batch: int) -> None:
    engine = make_engine(tiny, capacity=len(WISHES), largest_batch=largest_batch)
    backgrounds = [Background(engine, wish) for wish in WISHES]
    for wish, background in zip(WISHES, backgrounds, strict=True):
        guidance = tiny.resolve_guidance(wish.guidance, wish.size)
        for seed, image in zip(wish.seeds, background.images(), strict=True):
            *_, alone = tiny.draw(wish.prompt, wish.neighbors, seeds=[seed], size=wish.size, guidance=guidance)
            assert isinstance(alone, ImagesEvent)
            # Batches of another size round differently.
            assert np.abs(alone.images[0].astype(int) - image).max() <= (largest_batch > 1)
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


def test_a_full_engine_refuses_at_once(make_engine: MakeEngine, endless: Cascade, wish: Wish) -> None:
    engine = make_engine(endless, capacity=2)
    first = Background(engine, wish)
    assert first.stepped.wait(SECONDS)
    second = Background(engine, wish)
    assert second.admitted.wait(SECONDS)
    assert (first.ahead, second.ahead) == (0, 1)
    work = wish.work(endless)
    with pytest.raises(Overloaded) as refused, engine.admit(RequestHandle(timeout=FOREVER), work):
        pass
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    assert engine.counters.refused == 1
    first.call.cancel()
    second.call.cancel()
    assert isinstance(first.end().error, Cancelled)
    assert isinstance(second.end().error, Cancelled)
    with engine.admit(RequestHandle(timeout=FOREVER), work) as admission:
        assert admission.ahead == 0


def test_a_caller_cannot_take_all_slots(make_engine: MakeEngine, tiny: Cascade, wish: Wish) -> None:
    engine = make_engine(tiny, capacity=4)
    mine, other = (replace(wish, caller=caller).work(tiny) for caller in ("mine", "other"))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(engine.admit(RequestHandle(timeout=FOREVER), mine))
        with pytest.raises(Overloaded, match="2 requests of this API key"):
            stack.enter_context(engine.admit(RequestHandle(timeout=FOREVER), mine))
        for _ in range(2):
            stack.enter_context(engine.admit(RequestHandle(timeout=FOREVER), other))


def estimate(engine: Engine, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine believe that each step takes so long."""
    for name in ("alone", "per_row"):
        monkeypatch.setattr(engine.times, name, lambda kind: seconds)


def test_what_cannot_be_finished_in_time_is_refused_with_an_estimate(
    make_engine: MakeEngine, endless: Cascade, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(endless)
    estimate(engine, 0.01, monkeypatch)
    work = wish.work(endless)
    soon = RequestHandle(timeout=20)
    message = r"drawing takes about 500\.0 seconds, but the deadline is in \d+\.\d seconds"
    with pytest.raises(DeadlineExceeded, match=message), engine.admit(soon, work):
        pass
    running = Background(engine, wish)
    assert running.stepped.wait(SECONDS)
    later = RequestHandle(timeout=700)
    with pytest.raises(Overloaded, match="finished in about") as refused, engine.admit(later, work):
        pass
    assert refused.value.retry_after is not None
    assert 200 <= refused.value.retry_after <= 310
    running.call.cancel()
    running.end()


def test_cancelling_stops_the_work(make_engine: MakeEngine, endless: Cascade, wish: Wish) -> None:
    def skipped() -> float:
        return REGISTRY.get_sample_value("reimagen_generator_steps_cancelled_total") or 0

    before = skipped()
    engine = make_engine(endless)
    background = Background(engine, wish)
    assert background.stepped.wait(SECONDS)
    background.call.cancel()
    assert isinstance(background.end().error, Cancelled)
    wait_until(lambda: engine.counters.cancelled == 1)
    steps = engine.counters.steps
    assert steps < 50_000
    assert skipped() - before == 50_000 - steps
    after = Background(engine, wish)
    assert after.stepped.wait(SECONDS)
    assert engine.counters.steps > steps
    after.call.cancel()
    after.end()


def test_a_deadline_ends_the_drawing(
    make_engine: MakeEngine, endless: Cascade, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(endless)
    estimate(engine, 0.0, monkeypatch)
    late = Background(engine, wish, timeout=1.0).end()
    assert isinstance(late.error, DeadlineExceeded)
    wait_until(lambda: engine.counters.deadline_exceeded + engine.counters.cancelled == 1)
    assert engine.counters.steps < 50_000


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


def test_before_the_start_nobody_is_admitted(tiny: Cascade, wish: Wish) -> None:
    engine = Engine(tiny, capacity=1)
    with pytest.raises(Unavailable, match="starting"):
        engine.refuse_if_full()
    engine.stop(grace=0)


def test_stopping_waits_for_those_admitted(tiny: Cascade, wish: Wish) -> None:
    engine = Engine(tiny, capacity=1)
    engine.start()
    background = Background(engine, replace(wish, size=64))
    assert background.admitted.wait(SECONDS)
    engine.stop(grace=SECONDS)
    assert isinstance(background.end().events[-1], ImagesEvent)
    with pytest.raises(Unavailable, match="stopping"):
        engine.refuse_if_full()


def test_stopping_cuts_off_what_takes_too_long(endless: Cascade, wish: Wish) -> None:
    engine = Engine(endless, capacity=1)
    engine.start()
    background = Background(engine, wish)
    assert background.stepped.wait(SECONDS)
    engine.stop(grace=0)
    assert isinstance(background.end().error, Unavailable)
