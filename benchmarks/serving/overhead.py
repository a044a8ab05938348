"""The seconds of an image through the engine, with and without traces, beside the bare loop of steps."""

import time

import numpy as np
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reimagen_common.tracing import begin, span, start_tracing, stop_tracing
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.work import GenerationTask, Work

RUNS = 10
REFERENCE = ReferencePair(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), "a fox")


def overhead(cascade: Cascade) -> str:
    """Return a line that compares them, in runs that alternate so that other work affects them alike."""
    size, neighbors = cascade.sizes[0], [REFERENCE]
    guidance = cascade.resolve_guidance(GuidanceOptions(), size)
    engine = Engine(cascade, capacity=1, largest_batch=1)
    engine.start()

    def served(seed: int) -> None:
        with engine.admit(RequestHandle(timeout=300), Work(1, size, 1, guidance)) as admission:
            for _ in admission.draw(GenerationTask("a fox in the snow", neighbors, [seed])):
                pass

    def traced(seed: int) -> None:
        with span("request"):
            served(seed)

    def bare(seed: int) -> None:
        *_, last = cascade.draw("a fox in the snow", neighbors, seeds=[seed], size=size, guidance=guidance)
        assert isinstance(last, ImagesEvent)

    seconds: dict[str, list[float]] = {}
    for run in range(1 + RUNS):
        for name, draw in {"bare": bare, "engine": served, "traced": traced}.items():
            if name == "traced":
                start_tracing("benchmark", InMemorySpanExporter())
            began = time.monotonic()
            draw(run)
            if run:  # the first one compiles
                seconds.setdefault(name, []).append(time.monotonic() - began)
            stop_tracing()
    engine.stop(grace=0)
    least, middle = ({name: float(measure(of)) for name, of in seconds.items()} for measure in (np.min, np.median))

    def beside(name: str, other: str) -> str:
        extra, median = (kind[name] / kind[other] - 1 for kind in (least, middle))
        return f"{1000 * least[name]:.0f} ms at least ({extra:+.1%}; medians {median:+.1%})"

    return (
        f"an image of {size} px, {RUNS} runs: bare loop {1000 * least['bare']:.0f} ms, "
        f"engine {beside('engine', 'bare')}, with traces {beside('traced', 'engine')}\n"
        f"the span of a step: {_span_microseconds():.2f} µs without an exporter, "
        f"{_span_microseconds(InMemorySpanExporter()):.0f} µs with one"
    )


def _span_microseconds(exporter: InMemorySpanExporter | None = None) -> float:
    """Return the least mean time of recording a step's span; None turns tracing off."""
    if exporter is not None:
        start_tracing("benchmark", exporter)
    stage, means = begin("stage"), []
    for _ in range(20):
        began = time.perf_counter()
        for step in range(1, 101):
            stage.record("step", 0.1, {"stage": 0, "step": step, "evaluations": 2, "batch": 1})
        means.append((time.perf_counter() - began) / 100)
    stage.end()
    stop_tracing()
    return 1e6 * min(means)
