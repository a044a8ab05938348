"""Our peer: the imported network, and a stage that draws with it."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.peers.worker import serve, tokens_file
from reimagen_generator.config.cascade import Guidance, Strategy
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Text
from reimagen_generator.weights.checkpoint import load_config, load_network, stage_file


class Ours:
    """Our network from a cascade's folder."""

    def __init__(self, folder: Path, batch: int, steps: int, weight: float) -> None:
        config = load_config(folder / "ours").stages[0].model_copy(update={"steps": steps})
        self._stage = Stage(config, load_network(folder / "ours" / stage_file(config.size), config.network), None)
        self._guidance = Guidance(strategy=Strategy.JOINT, text_weight=weight)
        tokens = np.load(tokens_file(folder))
        self._text, self._empty = (
            Text(jnp.asarray(np.repeat(row[None], batch, axis=0)), jnp.ones((batch, len(row)), bool)) for row in tokens
        )
        self._keys = jax.vmap(jax.random.key)(jnp.arange(batch))
        self._x = jax.random.normal(jax.random.key(0), (batch, config.size, config.size, 3))
        graph, self._parameters = nnx.split(self._stage.network)

        def evaluate(parameters: nnx.State[Any, Any], x: jax.Array, time: jax.Array, text: Text) -> jax.Array:
            output: jax.Array = nnx.merge(graph, parameters)(x, time, text)
            return output

        self._evaluate = jax.jit(evaluate)

    def evaluate(self) -> None:
        """Evaluate the network once."""
        time = jnp.full(len(self._x), 0.5)
        self._evaluate(self._parameters, self._x, time, self._text).block_until_ready()

    def draw(self) -> None:
        """Draw a batch of images."""
        conditions = self._stage.conditions(self._text, None, None, self._keys, self._empty)
        np.asarray(self._stage.sample_at_once(conditions, self._guidance, self._keys))


if __name__ == "__main__":
    serve(Ours(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
