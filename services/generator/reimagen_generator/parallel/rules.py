"""Rules for the mesh axis that divides each dimension of a parameter, by the name of its layer.

Products come in pairs (Megatron-LM, arXiv 1909.08053). The first is divided by columns, the operations in between need
no communication, and the second is divided by rows, after which the devices' results are summed. The name of a layer,
the same in every network, says which of the two it is. A dimension that its axis does not divide is not split.
"""

from collections.abc import Mapping

from jax.sharding import PartitionSpec

from reimagen_generator.parallel.mesh import FSDP, TENSOR

_BY_COLUMNS = {
    *("query", "key", "value", "qkv", "text_kv", "score", "pointer"),  # attention
    *("mlp_in", "gate", "linear", "inner"),  # MLPs and embeddings of scalars
    *("conv_in", "low_in", "modulation"),  # residual blocks
    *("placed_in", "map_in", "pixels_in"),  # inputs that are added to a map
    "text",  # a network's projection of the text's tokens
}
_BY_ROWS = {
    *("out", "fine_out"),  # attention
    *("mlp_out", "outer"),
    *("conv_out", "skip"),
    *("halve", "double"),  # convolutions between levels
}
_NORMS = {"norm", "norm_in", "norm_out", "text_norm", "key_norm", "query_norm", "mlp_norm"}
_WHOLE = {"scale", "log_precision", "offset", "position"}


def partition(name: str, shape: tuple[int, ...], axes: Mapping[str, int]) -> PartitionSpec:
    """Return the partition of a parameter.

    Args:
        name: Path of the parameter, such as `down.0.residual.1.conv_in.kernel`.
        shape: Shape of the parameter.
        axes: Number of devices along each axis of the mesh.

    Raises:
        ValueError: No rule matches the name.
    """
    rule = _rule(name, len(shape))
    fits = (axis if axis and size % axes[axis] == 0 else None for axis, size in zip(rule, shape, strict=True))
    return spec(*fits)


def spec(*axes: str | tuple[str, ...] | None) -> PartitionSpec:
    """Return a partition spec with the axes that divide each dimension, from the first on."""
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]


def _rule(name: str, dimensions: int) -> tuple[str | None, ...]:
    """Return the axis of each dimension, provided that it divides the dimension."""
    *path, leaf = [part for part in name.split(".") if not part.isdigit()]
    layer = path[-1] if path else ""
    whole = (None,) * dimensions
    match leaf:
        case "kernel" | "embedding" if dimensions < 2:  # Adafactor's row and column statistics of a matrix
            return whole
        case "kernel" if layer in _BY_COLUMNS:
            return (*whole[:-2], FSDP, TENSOR)
        case "kernel" if layer in _BY_ROWS:
            return (*whole[:-2], TENSOR, FSDP)
        case "bias" if layer in _BY_COLUMNS:
            return (TENSOR,)
        case "bias" if layer in _BY_ROWS or layer in _NORMS:
            return whole
        case "embedding" if layer == "position":  # a bias for each head
            return (None, TENSOR)
        case "embedding":
            return (TENSOR, FSDP)
        case _ if leaf in _WHOLE:
            return whole
    raise ValueError(f"{name}: no rule for the partition of this parameter; add its layer to parallel/rules.py")
