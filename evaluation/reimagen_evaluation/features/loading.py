"""Filling a network with stored tensors, every name and shape of which has been compared before."""

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
    """A network in float32, one tensor after the other; nothing is read before all of them are known to fit.

    Args:
        build: makes it; only its shapes are taken.
        path: a safetensors file, or the index of several.
        sources: what each of the network's tensors is made of, told the names that are stored; None for tensors of the
            same names and shapes.
        unused: of the names that are stored, those that have no place in the network.

    Raises:
        ValueError: a file cannot be read, or a tensor is missing, left over or of another shape, by its name.
    """
    network = nnx.eval_shape(build)
    state = nnx.state(network)
    wanted = named(state)
    with StoredTensors(path) as stored:
        names = stored.shapes.keys()
        made_of = {name: Source((name,), VECTOR) for name in wanted} if sources is None else sources(names)
        shapes = {name: tuple(value.shape) for name, value in wanted.items()}
        check(str(path), made_of, shapes, stored.shapes, set(unused(names)))
        order = stored.order
        for name in sorted(made_of, key=lambda name: order[made_of[name].names[0]]):
            wanted[name].set_value(jnp.asarray(made_of[name].make(stored.read).astype(np.float32)))
    nnx.update(network, state)
    return network
