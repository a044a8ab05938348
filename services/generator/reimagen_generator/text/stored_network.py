"""Loading of a frozen network from safetensors, one tensor at a time."""

from collections.abc import Mapping

import jax
from flax import nnx

from reimagen_generator.weights.checkpoint import named
from reimagen_generator.weights.importers.names import Source, check
from reimagen_generator.weights.shards import StoredTensors


def fill(network: nnx.Module, stored: StoredTensors, sources: Mapping[str, Source], unused: set[str]) -> None:
    """Put stored weights into a network of shapes, after a check of every name and shape.

    One tensor at a time is read, so that memory holds only the result and the largest tensor.

    Args:
        network: A network of shapes, as `nnx.eval_shape` returns it.
        stored: The stored tensors.
        sources: The stored tensors that make up each parameter of the network, by the parameter's name.
        unused: Stored tensors that the network does not need.

    Raises:
        ValueError: A file is damaged, or a tensor is missing, unknown or of another shape, with its name.
    """
    state = nnx.state(network, nnx.Param)
    parameters = named(state)
    check(str(stored.path), sources, {name: value.shape for name, value in parameters.items()}, stored.shapes, unused)
    order = stored.order
    for name in sorted(sources, key=lambda name: order[sources[name].names[0]]):
        # Converted on the device only: the host holds one tensor, in its stored type.
        tensor = jax.device_put(sources[name].make(stored.read))
        parameters[name].set_value(tensor.astype(parameters[name].dtype))
    nnx.update(network, state)
