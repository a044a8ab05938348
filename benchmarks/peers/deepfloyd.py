"""Comparison with diffusers: DeepFloyd IF's stage I, scaled down, with the same random weights, in one run.

Each peer runs in a separate process with as many threads as there are cores. They evaluate and draw in turns, so that
other work on the machine affects all alike. `make peer` installs the packages and runs this script.

    python -m benchmarks.peers.deepfloyd            # or with the number of rounds
    python -m benchmarks.peers.deepfloyd 8 --cpu-time

The second form is for a busy machine: each peer has one core and one thread, and the table shows processor time. This
excludes the time in which threads wait for each other, which affects PyTorch more.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.peers.worker import CLOCK, Worker, tokens_file
from benchmarks.shared.machine import machine

ROUNDS = 8
BATCHES = (1, 4)
STEPS = 8
WEIGHT = 7.0
TOKENS = 77

PEERS = {
    "ours": ("benchmarks.peers.ours",),
    "diffusers": ("benchmarks.peers.diffusers", "plain"),
    "diffusers, channels last": ("benchmarks.peers.diffusers", "channels-last"),
}
"""Module of each peer, and its extra arguments."""

# Unless a library is configured otherwise, it uses all cores.
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}


@dataclass
class Figures:
    """The measurements of one peer."""

    evaluations: list[float] = field(default_factory=list)
    """Seconds of each evaluation."""
    images: list[float] = field(default_factory=list)
    memory: float = 0.0
    """Peak memory while evaluating, in MiB."""


def measure(folder: Path, batch: int, rounds: int, environment: Mapping[str, str]) -> dict[str, Figures]:
    """Measure the peers in turns: first single evaluations, then whole images."""
    figures = {name: Figures() for name in PEERS}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                Worker(module, str(folder), str(batch), str(STEPS), str(WEIGHT), *options, environment=environment)
            )
            for name, (module, *options) in PEERS.items()
        }
        for work, count in (("evaluate", rounds), ("draw", max(rounds // 4, 1))):
            for worker in workers.values():  # compiles, and fills caches
                worker.seconds(work)
            for _ in range(count):
                for name, worker in workers.items():
                    taken = figures[name].evaluations if work == "evaluate" else figures[name].images
                    taken.append(worker.seconds(work))
            if work == "evaluate":
                for name, worker in workers.items():
                    figures[name].memory = worker.peak_megabytes
    return figures


def print_figures(batch: int, figures: dict[str, Figures]) -> None:
    """Print a line for each peer, and the ratio of ours to each of the others."""
    for name, its in figures.items():
        evaluations, least = batch / statistics.median(its.evaluations), batch / min(its.evaluations)
        image, quickest = statistics.median(its.images) / batch, min(its.images) / batch
        print(f"{batch:5}  {name:28}{evaluations:8.2f}{least:8.2f}{its.memory:9,.0f}{image:10.2f}{quickest:8.2f}")
    ours = figures["ours"]
    for name, its in figures.items():
        if name != "ours":
            rates = [f(its.evaluations) / f(ours.evaluations) for f in (statistics.median, min)]
            drawn = [f(its.images) / f(ours.images) for f in (statistics.median, min)]
            print(f"{batch:5}  {'ours over ' + name:28}{rates[0]:7.2f}x{rates[1]:7.2f}x", end="")
            print(f"{ours.memory / its.memory:8.2f}x{drawn[0]:9.2f}x{drawn[1]:7.2f}x", flush=True)


def main(rounds: int, cpu_time: bool) -> None:
    """Measure, and print the table."""
    environment = ENVIRONMENT
    if cpu_time:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # which the workers inherit
        environment = ENVIRONMENT | {CLOCK: "process_time"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = np.random.default_rng(0).standard_normal((2, TOKENS, 768), np.float32)
        np.save(tokens_file(folder), tokens)
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.weights", folder], check=True, env=ENVIRONMENT
        )
        print(f"{machine()}; medians and bests of {rounds} evaluations and {max(rounds // 4, 1)} images", flush=True)
        if cpu_time:
            print("seconds are those of the processor, on one core")
        print(f"{'':35}{'evaluations/s':>16}{'peak':>9}{'s an image':>18}")
        print(f"{'batch':>5}  {'':28}{'median':>8}{'best':>8}{'MiB':>9}{'median':>10}{'best':>8}", flush=True)
        for batch in BATCHES:
            print_figures(batch, measure(folder, batch, rounds, environment))
    print(f"an image: {STEPS} guided steps of DDPM, so {2 * STEPS} evaluations; over 1: ours is faster, or larger")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=ROUNDS)
    parser.add_argument("--cpu-time", action="store_true", help="measure processor time on one core, for busy machines")
    given = parser.parse_args()
    main(given.rounds, given.cpu_time)
