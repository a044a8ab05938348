"""Admission, order and cancellation of requests, with a real cascade."""

import contextlib
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

import jax
import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import REGISTRY

from reimagen_common.errors import DeadlineExceeded, Overloaded, ReimagenError, Unavailable
from reimagen_generator.config.cascade import Guidance
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.engine.engine import Engine, GenerationTask
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from tests.waiting import wait_until

SECONDS = 240.0


class MakeEngine(Protocol):
    def __call__(self, cascade: Cascade, *, capacity: int, batch_size: int = 1) -> Engine: ...


@pytest.fixture(scope="session")
def tiny() -> Cascade:
    return Cascade.random(TINY, seed=0)


@pytest.fixture(scope="session")
def single() -> Cascade:
    """Only the first stage, which compiles faster for another batch size."""
    return Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)


@pytest.fixture(params=[1, 2], ids=["one by one", "two at once"])
def batched(request: pytest.FixtureRequest, tiny: Cascade, single: Cascade) -> tuple[Cascade, int]:
    """Return a cascade and its batch size."""
    return (tiny, 1) if request.param == 1 else (single, 2)


@pytest.fixture(scope="session")
def endless() -> Cascade:
    """Return a cascade with so many steps that no request ends within a test."""
    stage = TINY.stages[0].model_copy(update={"steps": 50_000})
    return Cascade.random(TINY.model_copy(update={"stages": (stage,)}), seed=0)


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Return a function that starts engines; they are stopped after the test."""
    engines: list[Engine] = []

    def make(cascade: Cascade, *, capacity: int, batch_size: int = 1) -> Engine:
        engine = Engine(cascade, capacity=capacity, batch_size=batch_size)
        engine.start()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.stop(grace=0)


@pytest.fixture
def drawing() -> GenerationTask:
    return GenerationTask(prompt="a red panda", neighbors=[], seeds=[7], size=16, guidance=None, previews=0)


class Background:
    """A call on its own thread, as REST and gRPC make it."""

    def __init__(self, engine: Engine, drawing: GenerationTask, *, timeout: float = SECONDS) -> None:
        self.call = RequestHandle(timeout=timeout)
        self.admitted = threading.Event()
        self.stepped = threading.Event()
        self.ahead = -1
        self.events: list[StepEvent | ImagesEvent] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(engine, drawing))
        self._thread.start()

    def _run(self, engine: Engine, drawing: GenerationTask) -> None:
        try:
            with engine.admit(self.call) as place:
                self.ahead = place.ahead
                self.admitted.set()
                for event in place.draw(drawing):
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


def images(engine: Engine, drawing: GenerationTask) -> npt.NDArray[np.uint8]:
    """Return all images of the call, in the order of the seeds."""
    background = Background(engine, drawing).end()
    assert background.error is None
    finished = [event for event in background.events if isinstance(event, ImagesEvent)]
    drawn = np.concatenate([event.images for event in finished])
    assert [event.index for event in finished] == list(range(0, len(drawn), len(finished[0].images)))
    return drawn


def test_each_batch_reports_its_steps_in_order_and_then_its_images(
    make_engine: MakeEngine, batched: tuple[Cascade, int], drawing: GenerationTask
) -> None:
    cascade, batch_size = batched
    engine = make_engine(cascade, capacity=1, batch_size=batch_size)
    size, seeds = cascade.sizes[-1], [1, 2, 3]
    background = Background(engine, replace(drawing, size=size, seeds=seeds)).end()
    reported = [
        (event.index, event.stage, event.size, event.step, event.steps)
        if isinstance(event, StepEvent)
        else (event.index, event.images.shape)
        for event in background.events
    ]
    expected: list[tuple[object, ...]] = []
    for index in range(0, len(seeds), batch_size):
        expected += [
            (index, stage, config.size, step, config.steps)
            for stage, config in enumerate(cascade.config.stages)
            for step in range(1, config.steps + 1)
        ]
        expected.append((index, (min(batch_size, len(seeds) - index), size, size, 3)))
    assert reported == expected
    steps = sum(isinstance(event, StepEvent) for event in background.events)
    assert (engine.counters.finished, engine.counters.steps) == (1, steps)


def test_a_seed_gives_the_same_image_alone_and_in_a_batch(
    make_engine: MakeEngine, batched: tuple[Cascade, int], drawing: GenerationTask
) -> None:
    cascade, batch_size = batched
    engine = make_engine(cascade, capacity=1, batch_size=batch_size)
    seeds = [7, 8, 9]
    together = images(engine, replace(drawing, seeds=seeds))
    alone = [images(engine, replace(drawing, seeds=[seed]))[0] for seed in seeds]
    assert np.array_equal(together, alone)
    assert not np.array_equal(together[0], together[1])


def test_other_numbers_of_images_and_neighbors_compile_nothing_new(
    make_engine: MakeEngine, batched: tuple[Cascade, int], drawing: GenerationTask
) -> None:
    cascade, batch_size = batched
    engine = make_engine(cascade, capacity=1, batch_size=batch_size)
    red = ReferencePair(np.full((20, 30, 3), (255, 0, 0), np.uint8), "red")
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **fields: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(f"{fields} took {duration_secs:.2f} s")

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for neighbors in ([], [red], [red] * cascade.config.default_k):
            for seeds in ([1], [1, 2], [1, 2, 3]):
                images(engine, replace(drawing, seeds=seeds, neighbors=neighbors, size=cascade.sizes[-1], previews=1))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


@pytest.mark.parametrize("previews", [0, 1, 2, 3])
def test_the_number_of_previews_is_as_requested(
    make_engine: MakeEngine, tiny: Cascade, drawing: GenerationTask, previews: int
) -> None:
    background = Background(
        make_engine(tiny, capacity=1), replace(drawing, seeds=[1, 2], size=64, previews=previews)
    ).end()
    shown = [event for event in background.events if isinstance(event, StepEvent) and event.preview is not None]
    assert [step.index for step in shown] == [0] * previews
    assert all(step.preview is not None and step.preview.shape == (step.size, step.size, 3) for step in shown)


def test_the_same_seed_gives_the_same_image(make_engine: MakeEngine, tiny: Cascade, drawing: GenerationTask) -> None:
    engine = make_engine(tiny, capacity=1)
    once, again = images(engine, drawing), images(engine, drawing)
    other = images(engine, replace(drawing, seeds=[8]))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_a_full_engine_refuses_at_once(make_engine: MakeEngine, endless: Cascade, drawing: GenerationTask) -> None:
    engine = make_engine(endless, capacity=1)
    drawn, waiting = Background(engine, drawing), None
    assert drawn.stepped.wait(SECONDS)
    waiting = Background(engine, drawing)
    assert waiting.admitted.wait(SECONDS)
    assert (drawn.ahead, waiting.ahead) == (0, 1)
    with pytest.raises(Overloaded) as refused, engine.admit(RequestHandle(timeout=SECONDS)):
        pass
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    assert engine.counters.refused == 1
    drawn.call.cancel()
    waiting.call.cancel()
    assert isinstance(drawn.end().error, Cancelled)
    assert isinstance(waiting.end().error, Cancelled)
    with engine.admit(RequestHandle(timeout=SECONDS)) as place:
        assert place.ahead == 0


def test_cancelling_stops_the_work(make_engine: MakeEngine, endless: Cascade, drawing: GenerationTask) -> None:
    def spared() -> float:
        return REGISTRY.get_sample_value("reimagen_generator_steps_cancelled_total") or 0

    before = spared()
    engine = make_engine(endless, capacity=1)
    background = Background(engine, drawing)
    assert background.stepped.wait(SECONDS)
    background.call.cancel()
    assert isinstance(background.end().error, Cancelled)
    wait_until(lambda: engine.counters.cancelled == 1)
    steps = engine.counters.steps
    assert steps < 50_000
    assert spared() - before == 50_000 * len(drawing.seeds) - steps
    behind = Background(engine, drawing, timeout=SECONDS)
    assert behind.stepped.wait(SECONDS)
    assert engine.counters.steps > steps
    behind.call.cancel()
    behind.end()


def test_a_request_cancelled_in_the_queue_is_never_drawn(
    make_engine: MakeEngine, endless: Cascade, drawing: GenerationTask
) -> None:
    engine = make_engine(endless, capacity=2)
    first = Background(engine, drawing)
    assert first.stepped.wait(SECONDS)
    second = Background(engine, drawing)
    assert second.admitted.wait(SECONDS)
    second.call.cancel()
    assert isinstance(second.end().error, Cancelled)
    assert second.events == []
    first.call.cancel()
    first.end()
    wait_until(lambda: engine.counters.cancelled == 2)
    assert second.events == []


def test_a_deadline_ends_the_drawing(make_engine: MakeEngine, endless: Cascade, drawing: GenerationTask) -> None:
    engine = make_engine(endless, capacity=1)
    late = Background(engine, drawing, timeout=1.0).end()
    assert isinstance(late.error, DeadlineExceeded)
    wait_until(lambda: engine.counters.deadline_exceeded + engine.counters.cancelled == 1)
    assert engine.counters.steps < 50_000


class Brittle(Cascade):
    """A cascade that fails during drawing if the prompt says so."""

    def draw(
        self,
        prompt: str,
        neighbors: Sequence[ReferencePair],
        *,
        seeds: Sequence[int],
        size: int,
        guidance: Sequence[Guidance] | None = None,
        steps_factor: float = 1.0,
        previews: frozenset[int] = frozenset(),
    ) -> Generator[StepEvent | ImagesEvent, None, None]:
        for event in super().draw(prompt, neighbors, seeds=seeds, size=size, guidance=guidance):
            yield event
            if prompt == "fail":
                raise RuntimeError("out of memory")


class Recording(Cascade):
    """A cascade that records its prompts."""

    drawn: ClassVar[list[tuple[str, Sequence[ReferencePair]]]] = []

    def draw(
        self,
        prompt: str,
        neighbors: Sequence[ReferencePair],
        *,
        seeds: Sequence[int],
        size: int,
        guidance: Sequence[Guidance] | None = None,
        steps_factor: float = 1.0,
        previews: frozenset[int] = frozenset(),
    ) -> Generator[StepEvent | ImagesEvent, None, None]:
        self.drawn.append((prompt, neighbors))
        yield from super().draw(prompt, neighbors, seeds=seeds, size=size, guidance=guidance)


def test_calls_are_drawn_in_the_order_of_arrival(make_engine: MakeEngine, drawing: GenerationTask) -> None:
    prompts = ["first", "second", "third", "fourth"]
    engine = make_engine(Recording.random(TINY, seed=0), capacity=len(prompts))
    red = ReferencePair(np.full((20, 30, 3), (255, 0, 0), np.uint8), "red")
    Recording.drawn.clear()
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(engine.admit(RequestHandle(timeout=SECONDS))) for _ in prompts]
        streams = [
            place.draw(replace(drawing, prompt=prompt, neighbors=[red]))
            for place, prompt in zip(places, prompts, strict=True)
        ]
        for stream in reversed(streams):
            assert isinstance(list(stream)[-1], ImagesEvent)
    assert Recording.drawn == [(prompt, [red]) for prompt in prompts]


def test_a_failed_request_does_not_affect_others(make_engine: MakeEngine, drawing: GenerationTask) -> None:
    engine = make_engine(Brittle.random(TINY, seed=0), capacity=2)
    failed = Background(engine, replace(drawing, prompt="fail")).end()
    assert type(failed.error) is ReimagenError
    assert failed.call.id in str(failed.error)
    assert images(engine, drawing).shape == (1, 16, 16, 3)
    assert (engine.counters.failed, engine.counters.finished) == (1, 1)


def test_before_the_start_requests_are_refused(tiny: Cascade) -> None:
    engine = Engine(tiny, capacity=1)
    with pytest.raises(Unavailable, match="starting"), engine.admit(RequestHandle(timeout=SECONDS)):
        pass
    engine.stop(grace=0)


def test_stopping_waits_for_admitted_requests(tiny: Cascade, drawing: GenerationTask) -> None:
    engine = Engine(tiny, capacity=1)
    engine.start()
    background = Background(engine, replace(drawing, size=64))
    assert background.admitted.wait(SECONDS)
    engine.stop(grace=SECONDS)
    assert isinstance(background.end().events[-1], ImagesEvent)
    with pytest.raises(Unavailable, match="stopping"), engine.admit(RequestHandle(timeout=SECONDS)):
        pass


def test_stopping_cancels_requests_that_take_too_long(endless: Cascade, drawing: GenerationTask) -> None:
    engine = Engine(endless, capacity=1)
    engine.start()
    background = Background(engine, drawing)
    assert background.stepped.wait(SECONDS)
    engine.stop(grace=0)
    assert isinstance(background.end().error, Unavailable)
