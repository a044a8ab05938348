"""Which axis of the mesh shares out which dimension of a parameter, by the name of its layer.

Products come in pairs (Megatron-LM, arXiv 1909.08053): the first is shared out by its columns, what lies between needs
no exchange, and the second by its rows, after which the devices' sums are added up. The name says which of the two a
layer is, the same in every network. A dimension that its axis does not divide stays whole.
"""

from collections.abc import Mapping

from jax.sharding import PartitionSpec

from reimagen_generator.parallel.mesh import FSDP, TENSOR

_BY_COLUMNS = {
    *("query", "key", "value", "qkv", "text_kv", "score", "pointer"),  # attention
    *("mlp_in", "gate", "linear", "inner"),  # perceptrons and embeddings of scalars
    *("conv_in", "low_in", "modulation"),  # residual blocks
    *("placed_in", "map_in", "pixels_in"),  # what joins a map
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
    """How a parameter is shared out.

    Args:
        name: its path, such as `down.0.residual.1.conv_in.kernel`.
        shape: its shape.
        axes: devices along each axis of the mesh.

    Raises:
        ValueError: no rule knows the name.
    """
    wanted = _rule(name, len(shape))
    fits = (axis if axis and size % axes[axis] == 0 else None for axis, size in zip(wanted, shape, strict=True))
    return spec(*fits)


def spec(*axes: str | tuple[str, ...] | None) -> PartitionSpec:
    """The axes that share out each dimension, from the first on."""
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]


def _rule(name: str, dimensions: int) -> tuple[str | None, ...]:
    """The axis of each dimension, were all divisible."""
    *path, own = [part for part in name.split(".") if not part.isdigit()]
    layer = path[-1] if path else ""
    whole = (None,) * dimensions
    match own:
        case "kernel" | "embedding" if dimensions < 2:  # of Adafactor, which keeps rows and columns for a matrix
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
        case _ if own in _WHOLE:
            return whole
    raise ValueError(f"{name}: no rule says how this parameter is shared out")
