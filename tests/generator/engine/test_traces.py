"""The spans of the engine's work in the traces of its requests."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reimagen_common.tracing import span, start_tracing, stop_tracing
from reimagen_generator.diffusion.cascade import Cascade
from tests.engine_requests import Background, MakeEngine, Wish, images
from tests.waiting import SECONDS, wait_until


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    start_tracing("test", exporter)
    yield exporter
    stop_tracing()


@dataclass(frozen=True)
class Seen:
    """A span that has ended."""

    name: str
    id: int
    parent: int | None
    attributes: dict[str, Any]


def ended(exporter: InMemorySpanExporter) -> list[Seen]:
    """Stop tracing, and return all spans in the order of their ends."""
    stop_tracing()
    return [
        Seen(one.name, one.context.span_id, one.parent and one.parent.span_id, dict(one.attributes or {}))
        for one in exporter.get_finished_spans()
        if one.context is not None
    ]


def test_each_step_is_a_child_of_its_stage(
    make_engine: MakeEngine,
    tiny: Cascade,
    wish: Wish,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine(tiny, largest_batch=2)
    monkeypatch.setattr(engine.times, "batch_size", lambda kind, rows: rows)
    with span("request"):
        images(engine, replace(wish, seeds=[1, 2], size=32))
    spans = ended(exporter)
    (request,) = (one for one in spans if one.name == "request")
    stages = [one for one in spans if one.name == "stage"]
    assert {stage.parent for stage in stages} == {request.id}
    found = sorted((stage.attributes["stage"], stage.attributes["size"], stage.attributes["image"]) for stage in stages)
    assert found == [(0, 16, 0), (0, 16, 1), (1, 32, 0), (1, 32, 1)]
    for stage in stages:
        number = stage.attributes["stage"]
        steps = [one.attributes for one in spans if (one.name, one.parent) == ("step", stage.id)]
        assert [step.pop("step") for step in steps] == list(range(1, tiny.config.stages[number].steps + 1))
        assert steps == [{"stage": number, "evaluations": 1, "batch": 2}] * len(steps)


def test_a_cancelled_request_ends_its_stage(
    make_engine: MakeEngine, endless: Cascade, wish: Wish, exporter: InMemorySpanExporter
) -> None:
    engine = make_engine(endless)
    with span("request"):
        background = Background(engine, wish)
    assert background.stepped.wait(SECONDS)
    background.call.cancel()
    background.end()
    wait_until(lambda: engine.counters.cancelled == 1)
    names = [one.name for one in ended(exporter)]
    assert names.count("stage") == 1
    assert names.count("step") >= 1
