"""Print the relative differences between results on meshes of eight devices and on one device, as JSON.

    python eight_devices.py drawing|gradient REFERENCES MESH...

REFERENCES is the folder of the results on one device: those that are there are read, the others computed and written.
A mesh is named by its axes, such as 2x2x2.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.config.mesh import MeshConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Network, Text
from reimagen_generator.networks.registry import build_network
from reimagen_generator.parallel.hosts import all_gather, join
from reimagen_generator.parallel.mesh import build_mesh
from reimagen_generator.parallel.sharding import parameter_shardings, place_parameters, place_rows, unshard
from reimagen_generator.settings import Hosts
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.loss import Batch, draw, loss_by_row

BATCH, NEIGHBORS, LENGTH, CHANNELS = 8, 2, 24, 256
RNG = np.random.default_rng(0)
Parameters = nnx.State[Any, Any]


def text(rows: int) -> Text:
    mask = jnp.arange(LENGTH) < jnp.asarray(RNG.integers(0, LENGTH, (rows, 1)))
    return Text(jnp.asarray(RNG.standard_normal((rows, LENGTH, CHANNELS), np.float32)), mask)


def images(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.uniform(-1, 1, (*shape, 3)).astype(np.float32))


def network(stage: StageConfig, seed: int) -> Network:
    """Set random weights: zeroed layers would hide their inputs."""
    built = build_network(stage.network, nnx.Rngs(seed))
    state = nnx.state(built, nnx.Param)
    dtype = stage.network.dtype
    nnx.update(built, jax.tree.map(lambda a: a.astype(dtype) + 0.1 * RNG.standard_normal(a.shape, np.float32), state))
    return built


def vector(tree: object) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(all_gather(tree))])


def on_one_device(result: Callable[[Mesh | None], object], path: Path) -> np.ndarray:
    if not path.exists():
        np.save(path, vector(result(None)))
    reference: np.ndarray = np.load(path)
    return reference


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the norm of the difference over that of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


class GenerationTask:
    """Return one stage's images."""

    def __init__(self, index: int) -> None:
        size = TINY.stages[index].size
        self.index = index
        self.network = network(TINY.stages[index], index)
        self.text = text(BATCH)
        self.neighbors = (images(BATCH, NEIGHBORS, size, size), text(BATCH * NEIGHBORS))
        self.mask = jnp.asarray(RNG.random((BATCH, NEIGHBORS)) < 0.7)
        self.previous = images(BATCH, size // 2, size // 2) if index else None
        self.keys = jax.random.split(jax.random.key(index), BATCH)
        stage = TINY.stages[index]
        self.guidance = stage.guidance.model_copy(update={"text_weight": 3.0, "neighbor_weight": 2.0})

    def __call__(self, mesh: Mesh | None) -> jax.Array:
        graph, state = nnx.split(self.network)
        # As loaded for several devices: with the arrays in the host's memory.
        network = self.network if mesh is None else nnx.merge(graph, jax.tree.map(np.asarray, state))
        stage = Stage(TINY.stages[self.index], network, size_factor(TINY, self.index), mesh)
        neighbors = stage.encode_neighbors(*self.neighbors, self.mask) if stage.config.network.retrieval else None
        conditions = stage.conditions(self.text, neighbors, self.previous, self.keys)
        return stage.sample_at_once(conditions, self.guidance, self.keys)


class Gradient:
    """Return a training step's gradient of the first stage."""

    def __init__(self) -> None:
        size = TINY.stages[0].size
        self.graph, self.parameters = nnx.split(network(TINY.stages[0], 0))
        byte = [jnp.asarray(RNG.integers(0, 256, (BATCH, *n, size, size, 3)), jnp.uint8) for n in ((), (NEIGHBORS,))]
        mask = jnp.asarray(RNG.random((BATCH, NEIGHBORS)) < 0.7)
        self.batch = Batch(byte[0], text(BATCH), byte[1], text(BATCH * NEIGHBORS), mask)
        fields = {"preset": "tiny", "stage": 0, "data": ".", "output": ".", "weights": ".", "draws": 2}
        self.config = TrainingConfig.model_validate(fields | {"steps": 2, "warmup_steps": 1, "batch_size": BATCH})

    def __call__(self, mesh: Mesh | None) -> object:
        def loss(parameters: Parameters, batch: Batch) -> jax.Array:
            built = nnx.merge(self.graph, unshard(parameters, mesh))
            draws = draw(jax.random.key(5), self.config, batch)
            return loss_by_row(built, TINY.stages[0], None, batch, draws).mean()

        placed = place_parameters(self.parameters, mesh), place_rows(self.batch, mesh)
        shardings = None if mesh is None else parameter_shardings(self.parameters, mesh)
        return jax.jit(jax.grad(loss), out_shardings=shardings)(*placed)


def main() -> None:
    join(Hosts())
    assert jax.device_count() == 8
    wanted: dict[str, list[Callable[[], Callable[[Mesh | None], object]]]] = {
        # Both kinds of networks; the third stage adds no kind.
        "drawing": [partial(GenerationTask, 0), partial(GenerationTask, 1)],
        "gradient": [Gradient],
    }
    found: dict[str, float] = {}
    what, references, *meshes = sys.argv[1:]
    for number, build in enumerate(wanted[what]):
        result = build()
        reference = on_one_device(result, Path(references, f"{what}-{number}.npy"))
        for name in meshes:
            data, fsdp, tensor = map(int, name.split("x"))
            mesh = build_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor), jax.devices())
            found[name] = max(found.get(name, 0.0), difference(vector(result(mesh)), reference))
    json.dump(found, sys.stdout)


main()
