"""The least time that drawing can take: the networks' floating-point operations, divided by the machine's rate."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reimagen_generator.config.cascade import CascadeConfig, StageConfig
from reimagen_generator.diffusion import guidance, schedule
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.diffusion.conditions import encode_neighbors
from reimagen_generator.networks.network import LowResolution, Text, parameter_count
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.registry import text_length

_MATRIX_SIDE = 2048
_REPETITIONS = 5


@dataclass(frozen=True)
class Work:
    """The operations of a stage for one image with the default number of neighbors."""

    size: int
    parameters: int
    steps: int
    evaluations: int
    """Evaluations of the network in all steps; a guided step makes two or three."""
    flops_an_evaluation: float
    flops_of_neighbors: float
    """Operations to encode the neighbors, once per image."""

    @property
    def flops(self) -> float:
        """The operations in total."""
        return self.evaluations * self.flops_an_evaluation + self.flops_of_neighbors


def work(config: CascadeConfig) -> list[Work]:
    """Return the work of each stage, as XLA counts it before it optimizes; nothing is compiled or allocated."""
    words = text_length(config)
    return [
        _work(stage, size_factor(config, index), config.default_k, words) for index, stage in enumerate(config.stages)
    ]


def _work(stage: StageConfig, factor: int | None, k: int, words: int) -> Work:
    network = nnx.eval_shape(lambda: build_network(stage.network, nnx.Rngs(0)))
    graph, parameters = nnx.split(network)

    def encode(parameters: Any, images: Any, text: Text, mask: Any) -> Any:
        return encode_neighbors(nnx.merge(graph, parameters), images, text, mask, factor)

    def evaluate(parameters: Any, *arguments: Any) -> Any:
        return nnx.merge(graph, parameters)(*arguments)

    def neighbors(rows: int) -> tuple[Any, ...]:
        return parameters, _images(stage, rows, k), _text(stage, rows * k, words), _array(rows, k, kind=bool)

    rows = evaluations_a_step(stage)
    low_resolution = LowResolution(_images(stage, rows), _array(rows)) if stage.network.low_resolution else None
    encoded = jax.eval_shape(encode, *neighbors(rows)) if stage.network.retrieval else None
    conditions = (_text(stage, rows, words), encoded, low_resolution)
    flops = _flops(evaluate, parameters, _images(stage, rows), _array(rows), *conditions)
    return Work(
        size=stage.size,
        parameters=parameter_count(network),
        steps=stage.steps,
        evaluations=_evaluations(stage, rows),
        flops_an_evaluation=flops / rows,
        flops_of_neighbors=_flops(encode, *neighbors(1)) if stage.network.retrieval else 0,
    )


def evaluations_a_step(stage: StageConfig) -> int:
    """Return how often a guided step evaluates the network for one image."""
    return guidance.resolve(stage.guidance, neighbors=stage.network.retrieval).evaluations


def _evaluations(stage: StageConfig, guided_step: int) -> int:
    """Return the evaluations of all steps; steps outside of the guidance's interval make one evaluation."""
    guided = guidance.guided_steps(stage.guidance, schedule.sampling_schedule(stage).log_snr[:-1])
    return int(np.where(guided, guided_step, 1).sum())


def _array(*shape: int, kind: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, kind)  # type: ignore[no-untyped-call]


def _images(stage: StageConfig, *count: int) -> Any:
    return _array(*count, stage.size, stage.size, 3)


def _text(stage: StageConfig, count: int, words: int) -> Text:
    return Text(_array(count, words, stage.network.text_channels), _array(count, words, kind=bool))


def _flops(function: Any, *arguments: Any) -> float:
    # Not on compiled code: that calls libraries, whose operations XLA does not count.
    cost: Any = jax.jit(function).lower(*arguments).cost_analysis()
    return float(cost["flops"])


def flops_a_second() -> float:
    """Return the machine's best rate of float32 matrix products, with the faster one of XLA and NumPy."""
    a = np.random.default_rng(0).random((_MATRIX_SIDE, _MATRIX_SIDE), np.float32)
    on_device = jnp.asarray(a)
    product = jax.jit(jnp.matmul)
    product(on_device, on_device).block_until_ready()
    seconds = []
    for _ in range(_REPETITIONS):
        for multiply in (lambda: product(on_device, on_device).block_until_ready(), lambda: a @ a):
            started = time.perf_counter()
            multiply()
            seconds.append(time.perf_counter() - started)
    return float(2 * _MATRIX_SIDE**3 / min(seconds))
