"""The compiled functions of sampling, from shapes alone: no part of a network is allocated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from reimagen_generator.config.cascade import CascadeConfig, StageConfig
from reimagen_generator.config.text import T5Text
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import schedule
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.diffusion.conditions import Conditions
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.parallel.sharding import place_parameters, place_rows
from reimagen_generator.text.registry import text_length
from reimagen_generator.text.t5 import T5, T5_XXL


@dataclass(frozen=True)
class Program:
    """A function to compile, and the number of its runs."""

    part: str
    name: str
    runs: int
    parameters: float
    """Bytes of its network's parameters per device, which stay there between runs."""
    lower: Callable[[], jax.stages.Lowered]


def drawing(config: CascadeConfig, batch: int, neighbors: int, mesh: Mesh) -> Iterator[Program]:
    """Yield the programs that draw a batch of images, each with its own prompt and neighbors."""
    text = texts(config, batch)
    neighbor_text = texts(config, batch * neighbors)
    if isinstance(config.text_encoder, T5Text):
        yield encoding(config.text_encoder, batch * (1 + neighbors), mesh)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    for index, stage_config in enumerate(config.stages):
        stage = Stage(stage_config, network_shapes(stage_config.network), size_factor(config, index), mesh)
        size = stage_config.size
        part, parameters = str(size), bytes_per_device(stage.parameters)
        conditions = Conditions(text, None, None, empty_text=text)
        if stage_config.network.retrieval:
            images = shape((batch, neighbors, size, size, 3), jnp.float32)
            mask = shape((batch, neighbors), jnp.bool_)
            encoding_neighbors = stage.lower_encode_neighbors(images, neighbor_text, mask)
            yield Program(part, "neighbors", 1, parameters, _constant(encoding_neighbors))
            encoded = replace(_outputs(encoding_neighbors), log_weights=shape((batch, neighbors), jnp.float32))
            conditions = replace(conditions, neighbors=encoded)
        if index:
            low_res = shape((batch, *(config.stages[index - 1].size,) * 2, 3), jnp.float32)
            augmenting = stage.lower_augment(low_res, keys)
            yield Program(part, "augmentation", 1, parameters, _constant(augmenting))
            low_res_image = low_res if stage_config.low_res_consistency else None
            conditions = replace(conditions, low_resolution=_outputs(augmenting), low_res=low_res_image)
        yield from _steps(stage, stage_config, conditions, keys)


def _constant(lowered: jax.stages.Lowered) -> Callable[[], jax.stages.Lowered]:
    return lambda: lowered


def _outputs(lowered: jax.stages.Lowered) -> Any:
    """Return the shapes of what a function returns."""
    return jax.tree.map(lambda a: shape(a.shape, a.dtype), lowered.out_info)


def _steps(stage: Stage, config: StageConfig, conditions: Conditions, keys: Any) -> Iterator[Program]:
    part, parameters = str(config.size), bytes_per_device(stage.parameters)
    count = guiding.resolve(config.guidance, neighbors=config.network.retrieval).evaluations
    guided = int(guiding.guided_steps(config.guidance, schedule.sampling_schedule(config).log_snr[:-1]).sum())
    for name, runs, evaluations in (("step", guided, count), ("unguided step", config.steps - guided, 1)):
        if runs:
            yield Program(part, name, runs, parameters, partial(stage.lower_step, conditions, evaluations, keys))


def texts(config: CascadeConfig, rows: int) -> Text:
    """Return the shapes of encoded texts."""
    length = text_length(config)
    return Text(
        shape((rows, length, config.stages[0].network.text_channels), jnp.float32), shape((rows, length), jnp.bool_)
    )


def encoding(encoder: T5Text, rows: int, mesh: Mesh) -> Program:
    """Return the program of T5-XXL, in bfloat16, over all prompts and captions of neighbors."""
    graph, parameters = nnx.split(nnx.eval_shape(lambda: T5(T5_XXL, jnp.bfloat16, nnx.Rngs(0))))
    parameters = place_parameters(parameters, mesh)
    ids = place_rows((shape((rows, encoder.length), jnp.int32), shape((rows, encoder.length), jnp.bool_)), mesh)

    def encode(parameters: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        network: T5 = nnx.merge(graph, parameters)
        return network(ids, mask)

    return Program("text", "T5-XXL", 1, bytes_per_device(parameters), lambda: jax.jit(encode).lower(parameters, *ids))


def shape(sizes: tuple[int, ...], dtype: Any) -> Any:
    """Return an array without data, for tracing."""
    return jax.ShapeDtypeStruct(sizes, dtype)  # type: ignore[no-untyped-call]


def bytes_per_device(tree: Any) -> float:
    """Return the bytes per device of arrays with a sharding."""
    leaves = jax.tree.leaves(tree)
    return float(sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves))
