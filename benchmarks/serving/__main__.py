"""The engine under an open-loop load on this machine, beside drawing one at a time and batching whole requests.

    python -m benchmarks.serving [--requests 60] [--load 0.9]

The three policies serve the same arrivals, one policy after the other. A refused request is not tried again.
"""

import threading
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.serving.load import NEIGHBORS, Arrival, Outcome, arrivals, header, rows
from benchmarks.serving.policies import POLICIES
from benchmarks.shared.machine import machine
from reimagen_common.errors import ReimagenError
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.work import GenerationTask
from reimagen_generator.jax_setup import keep_compiled
from reimagen_generator.settings import SHIPPED_WEIGHTS

SHARES = {64: 0.6, 256: 0.3, 1024: 0.1}
CAPACITY = 16
TIMEOUT = 300.0
REFERENCE = ReferencePair(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), "a fox")


def serve(engine: Engine, load: list[Arrival]) -> tuple[list[Outcome], float]:
    """Send a load to an engine, and return the outcomes and the seconds until the last one."""
    outcomes: list[Outcome] = []
    began = time.monotonic()

    def send(number: int, arrival: Arrival) -> None:
        arrived = time.monotonic()
        preview = None
        try:
            with engine.admit(RequestHandle(timeout=TIMEOUT), arrival.work) as admission:
                for event in admission.draw(GenerationTask("a fox in the snow", [REFERENCE] * NEIGHBORS, [number], 1)):
                    if isinstance(event, StepEvent) and event.preview is not None:
                        preview = time.monotonic() - arrived
            outcomes.append(Outcome(arrival, time.monotonic() - arrived, preview))
        except ReimagenError:
            outcomes.append(Outcome(arrival, None, None))

    threads = []
    for number, arrival in enumerate(load):
        time.sleep(max(0.0, began + arrival.seconds - time.monotonic()))
        threads.append(threading.Thread(target=send, args=(number, arrival)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return outcomes, time.monotonic() - began


def main(
    requests: Annotated[int, typer.Option(help="Number of requests of each run.")] = 60,
    load: Annotated[
        list[float] | None, typer.Option(help="Loads as shares of the capacity [default: .5 .9 1.5].")
    ] = None,
) -> None:
    """Print a table of the policies under several loads."""
    keep_compiled(Path("build/demo/compiled"))
    cascade = Cascade.load(SHIPPED_WEIGHTS)
    print(f"cascade {cascade.config.name!r}, {requests} requests a run; {machine()}")
    print("| " + " | ".join(header(sorted(SHARES))) + " |")
    print("|" + "---|" * (4 + len(SHARES)))
    for share in load or [0.5, 0.9, 1.5]:
        requested: list[Arrival] = []
        for name, policy in POLICIES.items():
            engine = Engine(cascade, capacity=CAPACITY)
            engine.scheduler = policy(engine.times, 1)  # type: ignore[assignment]
            engine.start()
            requested = requested or arrivals(cascade, engine.times, SHARES, share, requests, seed=0)
            outcomes, seconds = serve(engine, requested)
            engine.stop(grace=0)
            print("| " + " | ".join([f"{share:.0%}", name, *rows(outcomes, seconds)]) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
