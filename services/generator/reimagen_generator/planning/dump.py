"""Figures of a program from XLA's dump after optimization and memory layout."""

from typing import Any

import jax

# JAX has no public names for an HLO module and XLA's cost analysis.
from jaxlib import _hlo, _jax  # type: ignore[attr-defined]

from reimagen_generator.planning.collectives import exchanged_bytes
from reimagen_generator.planning.hlo import read_hlo
from reimagen_generator.planning.roofline import Figures

_HBM = 0
"""The color of buffers in HBM; the other memories of a chip have other colors."""


def dumped_figures(dump: bytes, compile_seconds: float) -> Figures:
    """Return the figures of a dumped program.

    Args:
        dump: XLA's `HloProto`, with the memory layout.
        compile_seconds: Time until the dump was written, in seconds.
    """
    hlo = read_hlo(dump)
    module = _hlo.HloModule.from_serialized_hlo_module_proto(hlo.hlo_module.SerializeToString())
    exchanged = exchanged_bytes(module.to_string())
    flops, unpadded = _count(module, "flops"), _count(module, "bytes accessed")
    _fill_tiles(hlo.hlo_module)
    padded = _hlo.HloModule.from_serialized_hlo_module_proto(hlo.hlo_module.SerializeToString())
    return Figures(
        **_memory(hlo.buffer_assignment.buffer_allocations),
        flops=flops,
        moved=_count(padded, "bytes accessed"),
        unpadded=unpadded,
        exchanged=exchanged,
        compile_seconds=compile_seconds,
    )


def _memory(allocations: Any) -> dict[str, float]:
    """Return the bytes in HBM without constants. A result that overwrites an argument counts as that argument."""
    sizes = {"arguments": 0.0, "outputs": 0.0, "temporaries": 0.0}
    for one in allocations:
        if one.color != _HBM or one.is_thread_local or one.is_constant:
            continue
        if one.is_entry_computation_parameter:
            sizes["arguments"] += one.size
        else:
            sizes["outputs" if one.maybe_live_out else "temporaries"] += one.size
    return sizes


def _count(module: Any, what: str) -> float:
    """Return a figure of XLA's cost analysis, whose rules hold for every device."""
    counts = _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)
    return float(counts[what])


def _fill_tiles(module: Any) -> None:
    """Enlarge each array to its size in memory, in whole tiles: 64 channels take the space of 128.

    XLA's cost analysis uses only the shapes.
    """
    for computation in module.computations:
        for instruction in computation.instructions:
            if instruction.opcode == "constant":
                continue  # its data have the original shape
            if instruction.opcode == "reshape":
                instruction.opcode = "copy"  # it moves as much, but allows a different number of elements
            _fill(instruction.shape)


def _fill(shape: Any) -> None:
    for part in shape.tuple_shapes:
        _fill(part)
    if shape.layout.tiles:
        # The last dimension of a tile is along the minor-most dimension of the array.
        for dimension, side in zip(
            shape.layout.minor_to_major, reversed(shape.layout.tiles[0].dimensions), strict=False
        ):
            shape.dimensions[dimension] = -(-shape.dimensions[dimension] // side) * side
