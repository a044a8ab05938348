"""Description of a cascade: the parameters and operations of each part, without allocating any of them."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from reimagen_generator.config.cascade import CascadeConfig, StageConfig
from reimagen_generator.networks.network import LowResolution, Network, Text
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.text.registry import text_length

_Part = str


@dataclass(frozen=True)
class _Origin:
    """The origin of a value: the weights of a part, or a result that the part computed."""

    part: _Part
    weight: bool


@dataclass(frozen=True)
class PartCost:
    """Parameters and operations of a part of a network."""

    name: str
    parameters: int
    flops: int
    """Floating-point operations of one evaluation for one image."""
    neighbor_flops: int
    """Floating-point operations for one neighbor, spent once per image."""


@dataclass(frozen=True)
class StageCost:
    """Parameters and operations of a stage of a cascade."""

    stage: StageConfig
    parts: tuple[PartCost, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Floating-point operations of one evaluation for one image, given the neighbors' keys and values."""
        return sum(part.flops for part in self.parts)

    @property
    def neighbor_flops(self) -> int:
        """Floating-point operations to encode one neighbor, spent once per image."""
        return sum(part.neighbor_flops for part in self.parts)


def stage_cost(stage: StageConfig, tokens: int, neighbors: int) -> StageCost:
    """Return the cost of each part of a stage.

    Args:
        stage: The stage.
        tokens: Number of tokens of a text.
        neighbors: Number of neighbors of an image; ignored for a stage without neighbors.
    """
    network = network_shapes(stage.network)
    graph, state = nnx.split(network, nnx.Param)
    side = stage.size
    low_resolution = stage.network.low_resolution

    def text(rows: int) -> Text:
        return Text(jnp.zeros((rows, tokens, stage.network.text_channels)), jnp.ones((rows, tokens), bool))

    def encode(state: nnx.State[Any, Any], images: jax.Array) -> Any:
        merged: Network = nnx.merge(graph, state)
        mask = jnp.ones((1, images.shape[1]), bool)
        return merged.encode_neighbors(images, text(images.shape[1]), mask, images if low_resolution else None)

    def evaluate(state: nnx.State[Any, Any], x: jax.Array, encoded: Any) -> jax.Array:
        merged: Network = nnx.merge(graph, state)
        low = LowResolution(x, jnp.zeros(1)) if low_resolution else None
        return merged(x, jnp.zeros(1), text(1), encoded, low)

    encoded, once = None, Counter[_Part]()
    if stage.network.retrieval and neighbors:
        encoded = jax.eval_shape(encode, state, _shape(1, neighbors, side, side, 3))
        once = count_flops(encode, state, _shape(1, 1, side, side, 3))
    each = count_flops(evaluate, state, _shape(1, side, side, 3), encoded)
    parameters = Counter[_Part]()
    for path, value in nnx.to_flat_state(state):
        parameters[_part(path)] += math.prod(value.shape)
    order = dict.fromkeys([*each, *parameters])  # the order of the computation
    return StageCost(stage, tuple(PartCost(part, parameters[part], each[part], once[part]) for part in order))


def count_flops(function: Callable[..., Any], state: nnx.State[Any, Any], *arguments: Any) -> Counter[_Part]:
    """Return the floating-point operations of a function's products and convolutions, by the part of `state`.

    A product with weights counts for the part of the weights. A product without weights, such as the two of attention,
    counts for the part that computed its operands. Other operations are not counted: their time is negligible in
    comparison.
    """
    jaxpr = jax.make_jaxpr(function)(state, *arguments).jaxpr
    weights = [_Origin(_part(path), weight=True) for path, _ in nnx.to_flat_state(state)]
    origins: list[_Origin | None] = [*weights, *[None] * (len(jaxpr.invars) - len(weights))]
    flops = Counter[_Part]()
    _walk(jaxpr, origins, flops)
    return flops


def _shape(*sizes: int) -> Any:
    return jax.eval_shape(lambda: jnp.zeros(sizes))


def _part(path: Sequence[Any]) -> _Part:
    numbered = len(path) > 2 and str(path[1]).isdigit()
    return ".".join(map(str, path[: 2 if numbered else 1]))


def _walk(jaxpr: core.Jaxpr, origins: Sequence[_Origin | None], flops: Counter[_Part]) -> list[_Origin | None]:
    """Add up a function's flops and return the origins of its results."""
    known: dict[Any, _Origin | None] = dict(zip(jaxpr.invars, origins, strict=True))

    def origin(value: Any) -> _Origin | None:
        return None if isinstance(value, core.Literal) else known.get(value)

    for equation in jaxpr.eqns:
        inputs = [origin(value) for value in equation.invars]
        inner = _inner(equation)
        if inner is not None:
            results = _walk(inner, inputs, flops)
        else:
            present = [o for o in inputs if o is not None]
            weights = [o for o in present if o.weight]
            first = next(iter(weights or present), None)
            count = _flops(equation)
            if count and first is not None:
                flops[first.part] += count
            only_weights = bool(weights) and len(weights) == len(present) and not count
            results = [first and _Origin(first.part, only_weights)] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return [origin(value) for value in jaxpr.outvars]


def _inner(equation: core.JaxprEqn) -> core.Jaxpr | None:
    """Return the function that an equation calls, or None."""
    inner: core.Jaxpr | core.ClosedJaxpr | None = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner


def _flops(equation: core.JaxprEqn) -> int:
    """Return the operations of an equation: two for each multiplication and addition."""
    shapes: list[tuple[int, ...]] = [getattr(value.aval, "shape", ()) for value in equation.invars]
    size = math.prod(getattr(equation.outvars[0].aval, "shape", ())) if equation.outvars else 0
    match equation.primitive.name:
        case "dot_general":
            contracted: Sequence[int] = equation.params["dimension_numbers"][0][0]
            return 2 * size * math.prod(shapes[0][axis] for axis in contracted)
        case "conv_general_dilated":
            out: int = equation.params["dimension_numbers"].rhs_spec[0]
            return 2 * size * math.prod(shapes[1]) // shapes[1][out]
        case _:
            return 0


def describe(config: CascadeConfig) -> Iterator[str]:
    """Yield the lines of a tree of the cascade's stages and parts."""
    tokens = text_length(config)
    costs = [stage_cost(stage, tokens, config.default_k) for stage in config.stages]
    total = sum(cost.parameters for cost in costs)
    yield f"{config.name}: {_count(total)} parameters, {tokens} tokens per text, {config.default_k} neighbors"
    for cost in costs:
        stage, last_stage = cost.stage, cost is costs[-1]
        once = f", plus {_flop(cost.neighbor_flops)} per neighbor and image" if cost.neighbor_flops else ""
        yield (
            f"{'└─' if last_stage else '├─'} {stage.size} × {stage.size}, {stage.network.kind}: "
            f"{_count(cost.parameters)} parameters, {_flop(cost.flops)} per evaluation{once}"
        )
        width = max(len(part.name) for part in cost.parts)
        for part in cost.parts:
            branch = f"{'   ' if last_stage else '│  '}{'└─' if part is cost.parts[-1] else '├─'}"
            yield f"{branch} {part.name:<{width}} {_count(part.parameters):>7} {_flop(part.flops):>12}"


def _count(number: int) -> str:
    digits, letter = _three_digits(number, "kMBT")
    return digits + letter


def _flop(number: int) -> str:
    digits, letter = _three_digits(number, "kMGT")
    return f"{digits} {letter}FLOP"


def _three_digits(number: int, letters: str) -> tuple[str, str]:
    for power in range(len(letters), 0, -1):
        if number >= 1000**power:
            return f"{number / 1000**power:#.3g}".rstrip("."), letters[power - 1]
    return str(number), ""
