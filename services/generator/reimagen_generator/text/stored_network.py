"""Weights of a frozen network from safetensors, one tensor at a time."""

from collections.abc import Mapping

import jax
from flax import nnx

from reimagen_generator.weights.checkpoint import named
from reimagen_generator.weights.importers.names import Source, check
from reimagen_generator.weights.shards import StoredTensors


def fill(network: nnx.Module, stored: StoredTensors, sources: Mapping[str, Source], unused: set[str]) -> None:
    """Put stored weights into a network of shapes; nothing is read before every name and shape has been compared.

    One tensor at a time is read, so that no more than the result and the largest tensor are held.

    Args:
        network: of shapes alone, as `nnx.eval_shape` gives it.
        stored: the tensors.
        sources: what each parameter of the network is made of, by its name.
        unused: stored tensors that have no place in the network.

    Raises:
        ValueError: a file is damaged, or a tensor is missing, unknown or of another shape, by its name.
    """
    state = nnx.state(network, nnx.Param)
    wanted = named(state)
    check(str(stored.path), sources, {name: value.shape for name, value in wanted.items()}, stored.shapes, unused)
    order = stored.order
    for name in sorted(sources, key=lambda name: order[sources[name].names[0]]):
        # Converted on the device, and there only: the host holds one tensor in the type that it is stored in.
        tensor = jax.device_put(sources[name].make(stored.read))
        wanted[name].set_value(tensor.astype(wanted[name].dtype))
    nnx.update(network, state)
