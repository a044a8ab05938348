"""The compiled training steps of a cascade's stages, from shapes alone."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.parallel.sharding import place_parameters, place_rows
from reimagen_generator.planning.programs import Program, bytes_per_device, shape, texts
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.loss import Batch
from reimagen_generator.training.trainer import TrainingTask, initial_state, training_step

LARGEST_CROP = 256
"""Larger stages are trained on crops of this side in pixels, as Imagen's last one (arXiv 2205.11487, section B.1)."""


def training(config: CascadeConfig, batch: int, neighbors: int, mesh: Mesh) -> Iterator[Program]:
    """Yield a step of each stage: all parameters are trained with Adam, with averaged weights, in float32."""
    text = texts(config, batch)
    for index, stage in enumerate(config.stages):
        side = min(stage.size, LARGEST_CROP)
        rows = Batch(
            image=shape((batch, side, side, 3), jnp.uint8),
            text=text,
            neighbor_images=shape((batch, neighbors, side, side, 3), jnp.uint8),
            neighbor_text=texts(config, batch * neighbors),
            neighbor_mask=shape((batch, neighbors), jnp.bool_),
            empty_text=text if config.dropped_text is DroppedText.EMPTY_PROMPT else None,
        )
        run = _run(config.name, index, batch, neighbors)
        graph, parameters = nnx.split(network_shapes(stage.network))
        frozen = nnx.State[Any, Any]({})
        state = place_parameters(jax.eval_shape(partial(initial_state, run), parameters), mesh)
        step = partial(training_step, TrainingTask(run, stage, size_factor(config, index), graph, mesh))
        arguments = state, frozen, place_rows(rows, mesh), jax.eval_shape(lambda: jax.random.key(0))
        yield Program(
            f"{stage.size} (crops of {side})" if side < stage.size else str(stage.size),
            "training step",
            1,
            bytes_per_device(state),
            partial(jax.jit(step, donate_argnums=0).lower, *arguments),
        )


def _run(preset: str, stage: int, batch: int, neighbors: int) -> TrainingConfig:
    """Return a run whose length and folders do not matter."""
    folders = {"data": ".", "output": ".", "weights": "."}
    size = {"batch_size": batch, "neighbors": neighbors, "steps": 2, "warmup_steps": 1}
    return TrainingConfig.model_validate({"preset": preset, "stage": stage, **folders, **size})
