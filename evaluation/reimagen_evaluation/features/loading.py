"""Load stored tensors into a network, after a check of all names and shapes."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from reimagen_generator.weights.checkpoint import named
from reimagen_generator.weights.importers.names import VECTOR, Source, check
from reimagen_generator.weights.shards import StoredTensors

_Network = TypeVar("_Network", bound=nnx.Module)
Sources = Callable[[Collection[str]], Mapping[str, Source]]


def load_network(
    build: Callable[[], _Network],
    path: Path,
    sources: Sources | None = None,
    unused: Callable[[Collection[str]], Collection[str]] = lambda stored: (),
) -> _Network:
    """Return a network in float32 with its weights loaded one tensor at a time; all tensors are checked first.

    Args:
        build: builds the network; only its shapes are evaluated.
        path: a safetensors file, or the index of several.
        sources: maps the stored names to the source of each of the network's tensors; None if names and shapes are
            the same.
        unused: returns the stored names that the network does not use.

    Raises:
        ValueError: a file cannot be read, or a tensor is missing, left over or of another shape; the message names it.
    """
    network = nnx.eval_shape(build)
    state = nnx.state(network)
    parameters = named(state)
    with StoredTensors(path) as stored:
        names = stored.shapes.keys()
        made_of = {name: Source((name,), VECTOR) for name in parameters} if sources is None else sources(names)
        shapes = {name: tuple(value.shape) for name, value in parameters.items()}
        check(str(path), made_of, shapes, stored.shapes, set(unused(names)))
        order = stored.order
        for name in sorted(made_of, key=lambda name: order[made_of[name].names[0]]):
            parameters[name].set_value(jnp.asarray(made_of[name].make(stored.read).astype(np.float32)))
    nnx.update(network, state)
    return network
