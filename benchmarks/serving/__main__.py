"""The engine under an open-loop load on this machine, beside drawing one at a time and batching whole requests.

    python -m benchmarks.serving [--requests 60] [--load 0.9] [--callers 1]

The three policies serve the same arrivals, one policy after the other. A refused request is not tried again. Loads are
shares of the engine's capacity, by the times of starts and steps that it measured when it started. As with clients that
set no deadline, the engine works up to 300 seconds on a request; it counts as in time within ten times the seconds that
it takes alone.
"""

import threading
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.serving.load import CALLERS, HEADER, LOADS, NEIGHBORS, Arrival, Outcome, Run, arrivals, bars, capacity
from benchmarks.serving.overhead import overhead
from benchmarks.serving.policies import ENGINE, ONE_AT_A_TIME, POLICIES
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

CAPACITY = 16
TIMEOUT = 300.0
REFERENCE = ReferencePair(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), "a fox")


def serve(engine: Engine, load: list[Arrival]) -> tuple[list[Outcome], float]:
    """Send a load to an engine, and return the outcomes and the seconds until the last one."""
    outcomes: list[Outcome] = []
    began = time.monotonic()

    def send(number: int, arrival: Arrival) -> None:
        arrived = time.monotonic()
        admitted, preview = False, None
        try:
            with engine.admit(RequestHandle(timeout=TIMEOUT), arrival.work) as admission:
                admitted = True
                task = GenerationTask(f"a fox in scene {number}", [REFERENCE] * NEIGHBORS, [number], 1)
                for event in admission.draw(task):
                    if isinstance(event, StepEvent) and event.preview is not None:
                        preview = time.monotonic() - arrived
            outcomes.append(Outcome(arrival, time.monotonic() - arrived, preview))
        except ReimagenError:
            outcomes.append(Outcome(arrival, None, preview, refused=not admitted))

    threads = []
    for number, arrival in enumerate(load):
        time.sleep(max(0.0, began + arrival.seconds - time.monotonic()))
        threads.append(threading.Thread(target=send, args=(number, arrival)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return outcomes, time.monotonic() - began


def main(
    requests: Annotated[int, typer.Option(min=1, help="Number of requests of each run.")] = 60,
    load: Annotated[
        list[float] | None, typer.Option(help="Loads as shares of the capacity [default: .5 .9 1.5].")
    ] = None,
    callers: Annotated[int, typer.Option(min=1, help="Number of API keys that send the requests.")] = CALLERS,
) -> None:
    """Print a table of the policies under several loads, and the engine's overhead."""
    keep_compiled(Path("build/demo/compiled"))
    cascade = Cascade.load(SHIPPED_WEIGHTS)
    print(f"cascade {cascade.config.name!r}, {requests} requests a run from {callers} callers; {machine()}")
    lines: list[str] = []
    for share in load or LOADS:
        requested: list[Arrival] = []
        runs = {}
        for policy in POLICIES:
            engine = Engine(
                cascade,
                capacity=CAPACITY,
                largest_batch=None if policy.batches else 1,
                policy=policy.scheduler,
            )
            engine.start()
            if not requested:
                print(f"capacity of the engine: {capacity(cascade, engine.times):.3g} requests/s")
                print("| " + " | ".join(HEADER) + " |")
                print("|" + "---|" * len(HEADER))
                requested = arrivals(cascade, engine.times, share, requests, 0, callers)
            with policy.order():
                outcomes, seconds = serve(engine, policy.requests(requested))
            engine.stop(grace=0)
            runs[policy] = Run(share, policy.name, outcomes, seconds)
            print("| " + " | ".join(runs[policy].row()) + " |", flush=True)
        lines += bars(runs[ENGINE], runs[ONE_AT_A_TIME])
    print("\n".join(lines))
    print(overhead(cascade))


if __name__ == "__main__":
    typer.run(main)
