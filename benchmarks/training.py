"""Training speed of the demonstration's stages, the theoretical floor, and where the time goes.

The script takes training steps as `demo/training/*.toml` configure them, on random images and texts. It also measures
the parts of a step: the forward and backward pass, the rest, and each convolution and matrix product of both passes
separately, in the shapes that it has there.

    python -m benchmarks.training [64.toml ...]
"""

import math
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from benchmarks.shared.floor import flops_a_second
from benchmarks.shared.machine import machine
from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.encoder import TextEmbedding
from reimagen_generator.training.config import TrainingConfig, load_config
from reimagen_generator.training.data import NeighborTruth, Sample, SampleNeighbor, ShardSource, collate
from reimagen_generator.training.loader import GoodSamples, batches, samples
from reimagen_generator.training.loss import Batch, draw, loss_by_row
from reimagen_generator.training.subject import configured_cascade
from reimagen_generator.training.trainer import TrainingTask, initial_state, training_step

CONFIGS = Path("demo/training")
STEPS = 7
"""Number of timed steps, after one that compiles."""
REPETITIONS = 3
BATCHES = 20
NEIGHBOR_SIDE = 128
"""Side in pixels of stored neighbors of small images that are placed."""
TEXT = "a red panda in the snow"


@dataclass(frozen=True)
class Stage:
    """A stage with the inputs of a training step."""

    config: TrainingConfig
    stage: StageConfig
    factor: int | None
    batch: Batch

    @property
    def rows(self) -> int:
        """The rows per step: images times draws of each."""
        return self.config.batch_size * self.config.draws


class RandomEncoder:
    """A text encoder that returns random vectors, since the texts do not affect the time of a step."""

    length = 24

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Return embeddings of as many texts."""
        tokens = np.random.default_rng(0).standard_normal((len(texts), self.length, self.channels), np.float32)
        return TextEmbedding(tokens, np.ones((len(texts), self.length), bool))


def read(path: Path) -> Stage:
    """Read a stage from a training configuration, with a random batch."""
    config = load_config(path)
    if isinstance(config.stage, str):
        raise typer.BadParameter(f"{path} must train a stage, but trains the {config.stage} network")
    cascade = configured_cascade(config)
    stage = cascade.stages[config.stage]
    side = config.crop or config.resolution or stage.size
    rng = np.random.default_rng(0)

    def pixels(side: int, *channels: int) -> Any:
        return rng.integers(0, 256, (side, side, *channels), np.uint8)

    def neighbor() -> SampleNeighbor:
        truth = NeighborTruth(box=(0.5, 0.5, 0.75), placements=((0.5, 0.6, 0.5, 0.0, 0.0),))
        large = max(NEIGHBOR_SIDE, side) if stage.network.placed else side
        return SampleNeighbor(pixels(large, 3), TEXT, pixels(large), truth if stage.network.placed else None)

    found = [
        Sample(pixels(side, 3), TEXT, tuple(neighbor() for _ in range(config.neighbors)))
        for _ in range(config.batch_size)
    ]
    batch = collate(found, RandomEncoder(stage.network.text_channels), config.neighbors)
    return Stage(config, stage, size_factor(cascade, config.stage), batch)


def seconds(run: Callable[[], object], count: int) -> float:
    """Return the median time of a call, after one that compiles."""
    jax.block_until_ready(run())  # type: ignore[no-untyped-call]
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        jax.block_until_ready(run())  # type: ignore[no-untyped-call]
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def step_seconds(trained: Stage) -> tuple[float, float]:
    """Return the time of a whole step, and its floating-point operations as XLA counts them before it optimizes."""
    graph, parameters = nnx.split(build_network(trained.stage.network, nnx.Rngs(0)))
    task = TrainingTask(trained.config, trained.stage, trained.factor, graph, None)
    step = jax.jit(partial(training_step, task), donate_argnums=0)
    frozen = nnx.State[Any, Any]({})
    state = initial_state(trained.config, parameters)
    key = jax.random.key(0)
    cost: Any = step.lower(state, frozen, trained.batch, key).cost_analysis()

    def run() -> object:
        nonlocal state
        state, report = step(state, frozen, trained.batch, key)
        return report.losses

    return seconds(run, STEPS), float(cost["flops"])


def passes(trained: Stage) -> tuple[Callable[..., object], Callable[..., object], tuple[Any, ...]]:
    """Return the forward pass, the forward and backward pass, and their arguments."""
    graph, parameters = nnx.split(build_network(trained.stage.network, nnx.Rngs(0)))

    def forward(parameters: Any, batch: Batch, key: Any) -> Any:
        draws = draw(key, trained.config, batch)
        network = nnx.merge(graph, parameters)
        return loss_by_row(network, trained.stage, trained.factor, batch, draws, trained.config.x0_loss).mean()

    return forward, jax.grad(forward), (parameters, trained.batch, jax.random.key(0))


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Yield all equations, including those of nested functions."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: isinstance(v, (ClosedJaxpr, Jaxpr))):
            if isinstance(value, ClosedJaxpr):
                yield from equations(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from equations(value)


def kind_of(equation: JaxprEqn) -> str | None:
    """Return the line of the profile that an equation belongs to, if it is a product."""
    match equation.primitive.name:
        case "conv_general_dilated":
            return "convolutions"
        case "dot_general":
            _, batched = equation.params["dimension_numbers"]
            return "attention's products" if batched[0] else "linear layers"
    return None


def products(function: Callable[..., object], arguments: tuple[Any, ...]) -> dict[str, tuple[float, float]]:
    """Return the seconds and operations of each kind of product in a function, each product compiled and run alone."""
    found: Counter[tuple[Any, ...]] = Counter()
    example: dict[tuple[Any, ...], JaxprEqn] = {}
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        if kind_of(equation) is not None:
            key = (*(str(v.aval) for v in equation.invars), str(equation.params))
            found[key] += 1
            example[key] = equation
    total: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    rng = np.random.default_rng(0)
    for key, count in found.items():
        equation = example[key]
        avals: list[Any] = [v.aval for v in equation.invars]
        inputs = [jnp.asarray(rng.standard_normal(aval.shape), aval.dtype) for aval in avals]
        alone = jax.jit(partial(equation.primitive.bind, **equation.params))
        cost: Any = alone.lower(*inputs).cost_analysis()
        kind = kind_of(equation)
        assert kind is not None
        taken, flops = total[kind]
        taken += count * seconds(partial(alone, *inputs), REPETITIONS)
        total[kind] = taken, flops + count * float(cost["flops"])
    return dict(total)


def loader_seconds(trained: Stage) -> float:
    """Return the time to load a batch of the configuration's data, with no other work; NaN if there is no data."""
    try:
        good = GoodSamples(ShardSource(trained.config.data, trained.stage.size))
    except ValueError:
        return math.nan
    data = samples(good, trained.config, trained.factor or 1)
    stream = batches(data, trained.config, RandomEncoder(trained.stage.network.text_channels), DroppedText.MASKED)
    next(stream)
    started = time.perf_counter()
    for _ in range(BATCHES):
        next(stream)
    return (time.perf_counter() - started) / BATCHES


def print_stage(name: str, trained: Stage, rate: float) -> None:
    """Measure a stage, and print its line and its profile."""
    step, flops = step_seconds(trained)
    config, rows = trained.config, trained.rows
    side = config.crop or config.resolution or trained.stage.size
    print(
        f"{name:>10}{side:6}{config.batch_size:10}{config.draws:7}{step:10.2f}{config.batch_size / step:12.1f}", end=""
    )
    print(f"{rows / step:8.1f}{flops / rows / 1e9:12.2f}{flops / rate:9.2f}{step * rate / flops:11.1f}x", flush=True)
    forward, both, arguments = passes(trained)
    forward_seconds = seconds(partial(jax.jit(forward), *arguments), REPETITIONS)
    both_seconds = seconds(partial(jax.jit(both), *arguments), REPETITIONS)
    parts = products(both, arguments)
    for kind, (taken, done) in parts.items():
        share = f"{taken / step:6.0%}{taken:9.3f} s"
        print(f"    {kind:34}{share}   {done / 1e9:7.1f} GFLOP at {done / taken / 1e9:.0f} GFLOP/s")
    rest = {
        "norms, softmax, activations, copies": both_seconds - sum(taken for taken, _ in parts.values()),
        "optimizer and average": step - both_seconds,
        "(of all this, the forward pass)": forward_seconds,
        "(beside it, loading the batch)": loader_seconds(trained),
    }
    for kind, taken in rest.items():
        print(f"    {kind:34}{taken / step:6.0%}{taken:9.3f} s", flush=True)


def main() -> None:
    """Print the table."""
    named = [CONFIGS / name for name in sys.argv[1:]] or sorted(CONFIGS.glob("*.toml"))
    rate = flops_a_second()
    print(f"Training as {CONFIGS} sets it; {machine()}; float32 matrix products at {rate / 1e9:.0f} GFLOP/s")
    print(f"{'run':>10}{'side':>6}{'images':>10}{'draws':>7}{'s a step':>10}{'images/s':>12}{'rows/s':>8}", end="")
    print(f"{'GFLOP/row':>12}{'floor, s':>9}{'of the floor':>12}", flush=True)
    for path in named:
        print_stage(path.stem, read(path), rate)


if __name__ == "__main__":
    main()
