"""What a cascade is made of: each part with its parameters and what it computes, without allocating any of it."""

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
    """Where a value comes from: a part's weights, or what that part made of other values."""

    part: _Part
    weight: bool


@dataclass(frozen=True)
class PartCost:
    """A part of a network."""

    name: str
    parameters: int
    flops: int
    """Floating-point operations of an evaluation for one image."""
    neighbor_flops: int
    """Those spent on one neighbor, once an image."""


@dataclass(frozen=True)
class StageCost:
    """A stage of a cascade."""

    stage: StageConfig
    parts: tuple[PartCost, ...]

    @property
    def parameters(self) -> int:
        """Of the whole network."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Floating-point operations of an evaluation for one image, its neighbors' keys and values at hand."""
        return sum(part.flops for part in self.parts)

    @property
    def neighbor_flops(self) -> int:
        """Floating-point operations that encoding one neighbor takes, once an image."""
        return sum(part.neighbor_flops for part in self.parts)


def stage_cost(stage: StageConfig, tokens: int, neighbors: int) -> StageCost:
    """The parts of a stage.

    Args:
        stage: what to look at.
        tokens: length of a text.
        neighbors: of an image; none where the stage is not conditioned on them.
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
    order = dict.fromkeys([*each, *parameters])  # that of the computation
    return StageCost(stage, tuple(PartCost(part, parameters[part], each[part], once[part]) for part in order))


def count_flops(function: Callable[..., Any], state: nnx.State[Any, Any], *arguments: Any) -> Counter[_Part]:
    """Floating-point operations of the products and convolutions of a function, by the part of `state` they belong to.

    A product with weights belongs to their part; one without, as the two of attention, to the part that made what it
    multiplies. Everything else is left out: it takes no time to speak of beside these.
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
    """Adds up a function's flops, and gives the origins of what it returns."""
    known: dict[Any, _Origin | None] = dict(zip(jaxpr.invars, origins, strict=True))

    def origin(value: Any) -> _Origin | None:
        return None if isinstance(value, core.Literal) else known.get(value)

    for equation in jaxpr.eqns:
        given = [origin(value) for value in equation.invars]
        inner = _inner(equation)
        if inner is not None:
            made = _walk(inner, given, flops)
        else:
            here = [o for o in given if o is not None]
            weights = [o for o in here if o.weight]
            first = next(iter(weights or here), None)
            count = _flops(equation)
            if count and first is not None:
                flops[first.part] += count
            only_weights = bool(weights) and len(weights) == len(here) and not count
            made = [first and _Origin(first.part, only_weights)] * len(equation.outvars)
        known.update(zip(equation.outvars, made, strict=True))
    return [origin(value) for value in jaxpr.outvars]


def _inner(equation: core.JaxprEqn) -> core.Jaxpr | None:
    """The function that an equation calls."""
    inner: core.Jaxpr | core.ClosedJaxpr | None = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner


def _flops(equation: core.JaxprEqn) -> int:
    """Two for each multiplication and addition."""
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
    """A cascade as a tree, line by line."""
    tokens = text_length(config)
    costs = [stage_cost(stage, tokens, config.default_k) for stage in config.stages]
    total = sum(cost.parameters for cost in costs)
    yield f"{config.name}: {_count(total)} parameters, {tokens} tokens a text, {config.default_k} neighbors"
    for cost in costs:
        stage, last_stage = cost.stage, cost is costs[-1]
        once = f", and {_flop(cost.neighbor_flops)} a neighbor once an image" if cost.neighbor_flops else ""
        yield (
            f"{'└─' if last_stage else '├─'} {stage.size} × {stage.size}, {stage.network.kind}: "
            f"{_count(cost.parameters)} parameters, {_flop(cost.flops)} an evaluation{once}"
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
