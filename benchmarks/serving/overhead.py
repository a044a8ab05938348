"""The seconds of an image through the engine, beside the bare loop of steps."""

import time

import numpy as np

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
    """Return a line that compares both, in runs that alternate so that other work affects them alike."""
    size, neighbors = cascade.sizes[0], [REFERENCE]
    guidance = cascade.resolve_guidance(GuidanceOptions(), size)
    engine = Engine(cascade, capacity=1, largest_batch=1)
    engine.start()

    def served(seed: int) -> None:
        with engine.admit(RequestHandle(timeout=300), Work(1, size, 1, guidance)) as admission:
            for _ in admission.draw(GenerationTask("a fox in the snow", neighbors, [seed])):
                pass

    def bare(seed: int) -> None:
        *_, last = cascade.draw("a fox in the snow", neighbors, seeds=[seed], size=size, guidance=guidance)
        assert isinstance(last, ImagesEvent)

    seconds: dict[str, list[float]] = {}
    for run in range(1 + RUNS):
        for name, draw in {"bare": bare, "engine": served}.items():
            began = time.monotonic()
            draw(run)
            if run:  # the first one compiles
                seconds.setdefault(name, []).append(time.monotonic() - began)
    engine.stop(grace=0)
    least, middle = ([float(measure(seconds[name])) for name in ("engine", "bare")] for measure in (np.min, np.median))
    return (
        f"an image of {size} px, {RUNS} runs: bare loop {1000 * least[1]:.0f} ms, engine {1000 * least[0]:.0f} ms at "
        f"least ({least[0] / least[1] - 1:+.1%}); medians {middle[0] / middle[1] - 1:+.1%}"
    )
