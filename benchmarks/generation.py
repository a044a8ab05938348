"""Generation by the services as in production: time to ready, seconds per image, evaluations per second, peak memory.

The script serves the demonstration's knowledge base (built into build/demo/kb unless `make demo` has built it) with a
real retriever and Redis. It starts the generator twice: with nothing compiled, and with the code that the first start
compiled. The second generator draws over gRPC; its events report when each step of each stage is finished.

    python -m benchmarks.generation
"""

import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.shared.floor import Work, flops_a_second, work
from benchmarks.shared.machine import machine, peak_megabytes
from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_common.local_redis import LocalRedis
from reimagen_demo.report.ablation_sheet import prompts
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.running import GeneratorProcess, RetrieverProcess
from reimagen_generator.api.grpc import MESSAGE_BYTES
from reimagen_generator.settings import SHIPPED_WEIGHTS
from reimagen_generator.weights.checkpoint import load_config

IMAGES = 3
"""Number of images of each size."""


@dataclass(frozen=True)
class Drawn:
    """The time of each part of one image, in seconds."""

    size: int
    stages: dict[int, float]
    """Seconds of each stage, by the size that it draws; a stage includes encoding the neighbors."""
    other: float
    """Seconds from the request to the neighbors, and from the last step to the image's file."""

    @property
    def total(self) -> float:
        """The seconds from the request to the file."""
        return sum(self.stages.values()) + self.other


def draw(generator: GenerationStub, prompt: str, size: int, seed: int) -> Drawn:
    """Draw one image; the time between two events counts for the second one."""
    stages: defaultdict[int, float] = defaultdict(float)
    other, last = 0.0, time.perf_counter()
    for event in generator.Generate(pb.GenerateRequest(prompt=prompt, size=size, seed=seed)):
        now = time.perf_counter()
        if event.HasField("progress"):
            stages[event.progress.size] += now - last
        else:
            other += now - last
        last = now
    return Drawn(size, dict(stages), other)


def print_stages(stages: list[Work], drawn: list[Drawn], rate: float) -> None:
    """Print a line for each stage, then one for each image size."""
    print(f"{'stage':>5}{'parameters':>12}{'evaluations':>13}{'GFLOP each':>12}", end="")
    print(f"{'s an image':>13}{'evaluations/s':>15}{'floor, s':>10}{'of the floor':>14}")
    for stage in stages:
        seconds = statistics.median(image.stages[stage.size] for image in drawn if stage.size in image.stages)
        floor = stage.flops / rate
        print(f"{stage.size:5}{stage.parameters / 1e6:11.1f}M{stage.evaluations:13}", end="")
        print(f"{stage.flops_an_evaluation / 1e9:12.2f}{seconds:13.2f}", end="")
        print(f"{stage.evaluations / seconds:15.1f}{floor:10.2f}{seconds / floor:13.1f}x")
    for size in sorted({image.size for image in drawn}):
        images = [image for image in drawn if image.size == size]
        total, other = (statistics.median(getattr(image, part) for image in images) for part in ("total", "other"))
        print(f"an image of {size} px: {total:.2f} s, of which {other:.2f} s outside of the stages")


def main() -> None:
    """Measure, and print the table."""
    config = load_config(SHIPPED_WEIGHTS)
    stages = work(config)
    base = knowledge_base.build(Path("build/demo"))
    print(f"Drawing over gRPC, cascade {config.name!r}, {config.default_k} neighbors; {machine()}", flush=True)
    with tempfile.TemporaryDirectory() as name, LocalRedis() as redis:
        folder = Path(name)
        with RetrieverProcess(base, redis.url, folder) as retriever:
            retriever.wait()
            ready, peak = {}, {}
            for state in ("nothing compiled", "compiled code kept"):
                started = time.perf_counter()
                with GeneratorProcess(retriever.address, folder / "compiled", folder) as generator:
                    generator.wait()
                    ready[state] = time.perf_counter() - started
                    if state == "compiled code kept":
                        drawn, rate = measure(generator.grpc, [stage.size for stage in stages])
                    peak[state] = peak_megabytes(generator.process)
            peak_retriever, peak_redis = peak_megabytes(retriever.process), peak_megabytes(redis.process)
    print("ready after " + ", ".join(f"{seconds:.1f} s with {state}" for state, seconds in ready.items()))
    print_stages(stages, drawn, rate)
    print(f"floor: float32 matrix products at {rate / 1e9:.0f} GFLOP/s; medians of {IMAGES} images of each size")
    print(
        f"peak memory: generator {peak['compiled code kept']:,.0f} MiB ({peak['nothing compiled']:,.0f} "
        f"where it compiled), retriever {peak_retriever:,.0f} MiB, Redis {peak_redis:,.0f} MiB"
    )


def measure(address: str, sizes: list[int]) -> tuple[list[Drawn], float]:
    """Draw images of each size; also return the machine's best rate of products, measured between the images."""
    drawn, rates = [], []
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", MESSAGE_BYTES)]) as channel:
        generator = GenerationStub(channel)
        for seed in range(IMAGES):
            for size in sizes:
                rates.append(flops_a_second())
                drawn.append(draw(generator, prompts()[seed], size, seed))
    return drawn, max(rates)


if __name__ == "__main__":
    main()
