"""The cost of neighbors per step: with cached keys and values, and with encoding the neighbors in each step.

The script draws with the cascade's stages that use neighbors, one image for each number of neighbors. The steps of all
variants alternate, so that other work on the machine affects all of them alike.

    python -m benchmarks.neighbors
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.shared.floor import evaluations_a_step
from benchmarks.shared.machine import machine
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.diffusion.conditions import Conditions, encode_neighbors
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import Text
from reimagen_generator.settings import SHIPPED_WEIGHTS
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.weights.checkpoint import load_config, load_network, stage_file

COUNTS = (0, 1, 2, 4, 8)
STEPS = 12
"""Number of steps of each variant, after the first one, which compiles."""


@dataclass(frozen=True)
class Variant:
    """One way to take a step."""

    neighbors: int
    encoded: int = 0
    """How often a step encodes the neighbors: never, once, or once for each evaluation of the network."""


def stage_of(config: CascadeConfig, index: int) -> Stage:
    """Return a stage with the cascade's weights."""
    stage = config.stages[index]
    network = load_network(SHIPPED_WEIGHTS / stage_file(stage.size), stage.network)
    return Stage(stage, network, size_factor(config, index))


def drawing(stage: Stage, text: Text, variant: Variant) -> tuple[Conditions, Callable[[], object]]:
    """Return the conditions of one image, and a function that encodes its neighbors."""
    count, size = max(variant.neighbors, 1), stage.config.size
    images = jax.random.uniform(jax.random.key(1), (1, count, size, size, 3), minval=-1, maxval=1)
    neighbor_text, mask = jax.tree.map(lambda a: jnp.repeat(a, count, axis=0), text), jnp.ones((1, count), bool)
    previous = None if stage.factor is None else images[:, 0, :: stage.factor, :: stage.factor]
    keys = jax.random.key(0)[None]
    neighbors = stage.encode_neighbors(images, neighbor_text, mask)
    conditions = stage.conditions(text, neighbors, previous, keys)
    graph, parameters = nnx.split(stage.network)
    rows = jax.tree.map(lambda a: jnp.concatenate([a] * max(variant.encoded, 1)), (images, neighbor_text, mask))

    @jax.jit
    def encode(parameters: nnx.State[Any, Any], images: jax.Array, text: Text, mask: jax.Array) -> Neighbors:
        return encode_neighbors(nnx.merge(graph, parameters), images, text, mask, stage.factor)

    # Without neighbors the attention to them is omitted, not masked.
    conditions = conditions if variant.neighbors else replace(conditions, neighbors=None)
    return conditions, lambda: encode(parameters, *rows)


def measure(stage: Stage, text: Text) -> dict[Variant, list[float]]:
    """Return the seconds of each step, for each variant; the first step of each compiles and does not count."""
    ways = sorted({0, 1, evaluations_a_step(stage.config)})
    variants = [Variant(0)] + [Variant(k, encoded) for k in COUNTS if k for encoded in ways]
    drawings = {variant: drawing(stage, text, variant) for variant in variants}
    taken: defaultdict[Variant, list[float]] = defaultdict(list)
    runs = {
        variant: stage.sample(conditions, stage.config.guidance, jax.random.key(0)[None])
        for variant, (conditions, _) in drawings.items()
    }
    for step in range(min(1 + STEPS, stage.config.steps)):
        for variant, run in runs.items():
            started = time.perf_counter()
            if variant.encoded:
                jax.block_until_ready(drawings[variant][1]())  # type: ignore[no-untyped-call]
            next(run)[1].x.block_until_ready()
            if step:
                taken[variant].append(time.perf_counter() - started)
    return taken


def print_steps(size: int, taken: dict[Variant, list[float]]) -> None:
    """Print a line for each number of neighbors and each variant."""
    cached = {v.neighbors: seconds for v, seconds in taken.items() if not v.encoded}
    for variant, seconds in taken.items():
        how = {0: "once an image", 1: "once a step"}.get(variant.encoded, "each evaluation")
        print(f"{size:5}{variant.neighbors:4}  {how if variant.neighbors else '':16}", end="")
        for f in (statistics.median, min):
            print(f"{f(seconds) * 1e3:8.1f}", end="")
        for f in (statistics.median, min):
            print(f"{f(seconds) / f(cached[0]):8.2f}", end="")
        for f in (statistics.median, min):
            print(f"{f(cached[variant.neighbors]) / f(seconds):8.2f}" if variant.encoded else "", end="")
        print(flush=True)


def main() -> None:
    """Measure, and print the table."""
    config = load_config(SHIPPED_WEIGHTS)
    embedding = load_text_encoder(config, SHIPPED_WEIGHTS).encode(["a red panda in the snow"])
    text = Text(jnp.asarray(embedding.tokens), jnp.asarray(embedding.mask))
    print(f"Milliseconds a step by the number of neighbors, cascade {config.name!r}; {machine()}")
    print(f"{'':27}{'ms a step':>16}{'over k = 0':>16}{'cached over it':>16}")
    print(f"{'stage':>5}{'k':>4}  {'encoded':16}" + f"{'median':>8}{'least':>8}" * 3, flush=True)
    for index, stage in enumerate(config.stages):
        if stage.network.retrieval:
            print_steps(stage.size, measure(stage_of(config, index), text))


if __name__ == "__main__":
    main()
