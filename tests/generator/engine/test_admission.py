"""Who is refused, and what cancellation, deadlines and a stop end; over a real cascade."""

import contextlib
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from reimagen_common.errors import DeadlineExceeded, Overloaded, Unavailable
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.engine.counters import Counters
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.route import Route
from reimagen_generator.engine.work import Priority
from tests.engine_requests import FOREVER, Background, MakeEngine, Wish
from tests.waiting import SECONDS, wait_until, waiting_requests


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


def estimate(engine: Engine, step: float, monkeypatch: pytest.MonkeyPatch, *, start: float = 0.0) -> None:
    """Let the engine believe that each step and the start of each stage take so long."""
    for name, seconds in {"alone": step, "per_row": step, "turn": step, "start": start}.items():
        monkeypatch.setattr(engine.times, name, lambda kind, seconds=seconds: seconds)


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


def test_the_start_of_each_stage_counts(
    make_engine: MakeEngine, tiny: Cascade, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(tiny)
    for number, stage in enumerate(Route.of(tiny, replace(wish, size=64).work(tiny), 0).stages):
        assert engine.times.start(stage[0]) > 0, number
    estimate(engine, 1.0, monkeypatch, start=100.0)
    work = replace(wish, size=64, seeds=[1, 2]).work(tiny)
    message = r"drawing takes about 612\.0 seconds"
    with pytest.raises(DeadlineExceeded, match=message), engine.admit(RequestHandle(timeout=50), work):
        pass


def test_admitted_requests_keep_their_deadlines(
    make_engine: MakeEngine, endless: Cascade, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(endless)
    estimate(engine, 0.01, monkeypatch)
    running = Background(engine, replace(wish, seeds=[1, 2]), timeout=1400)
    assert running.stepped.wait(SECONDS)
    with (
        pytest.raises(Overloaded, match="an admitted request would miss its deadline"),
        engine.admit(RequestHandle(timeout=FOREVER), wish.work(endless)),
    ):
        pass
    with engine.admit(RequestHandle(timeout=FOREVER), replace(wish, seeds=[1, 2, 3]).work(endless)):
        pass
    running.call.cancel()
    running.end()


def test_a_background_request_waits_until_a_slot_is_free(make_engine: MakeEngine, endless: Cascade, wish: Wish) -> None:
    engine = make_engine(endless, capacity=1)
    first = Background(engine, wish)
    assert first.stepped.wait(SECONDS)
    waiting = [Background(engine, replace(wish, priority=Priority.BACKGROUND)) for _ in range(2)]
    wait_until(lambda: waiting_requests() == 2)
    assert not any(background.admitted.is_set() for background in waiting)
    assert engine.counters.refused == 0
    waiting[0].call.cancel()
    assert isinstance(waiting[0].end().error, Cancelled)
    assert waiting_requests() == 1
    first.call.cancel()
    assert waiting[1].stepped.wait(SECONDS)
    assert waiting[1].events
    waiting[1].call.cancel()
    waiting[1].end()


def test_the_deadline_of_a_background_request_counts_from_its_admission(
    make_engine: MakeEngine, tiny: Cascade, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(tiny, capacity=1)
    work = replace(wish, priority=Priority.BACKGROUND).work(tiny)
    late = RequestHandle(timeout=5)
    monkeypatch.setattr(late, "_deadline", 0.0)
    with engine.admit(late, work):
        assert late.remaining() > 0


def test_a_stop_ends_waits(endless: Cascade, wish: Wish) -> None:
    engine = Engine(endless, capacity=1)
    engine.start()
    first = Background(engine, wish)
    assert first.stepped.wait(SECONDS)
    waiting = Background(engine, replace(wish, priority=Priority.BACKGROUND))
    wait_until(lambda: waiting_requests() == 1)
    engine.stop(grace=0)
    assert isinstance(waiting.end().error, Unavailable)
    assert not waiting.events
    first.end()


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


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Cancelled(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (DeadlineExceeded("too late"), "deadline_exceeded"),
        (Unavailable("the retriever does not answer"), "failed"),
    ],
)
def test_a_request_that_ends_before_its_images_are_queued_is_counted(
    make_engine: MakeEngine, tiny: Cascade, wish: Wish, error: BaseException, outcome: str
) -> None:
    engine = make_engine(tiny)
    with pytest.raises(type(error)), engine.admit(RequestHandle(timeout=FOREVER), wish.work(tiny)):
        raise error
    assert replace(engine.counters, **{outcome: 0}) == Counters()
    assert getattr(engine.counters, outcome) == 1


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
