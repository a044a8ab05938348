"""Figures read from XLA's dumps, against XLA's own analysis of the same programs."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from reimagen_generator.planning.dump import dumped_figures
from reimagen_generator.planning.hlo import read_hlo
from reimagen_generator.planning.roofline import Figures


def attention(x: jax.Array, w: jax.Array) -> jax.Array:
    scores = jax.nn.softmax(x @ w @ x.T)
    return jnp.tanh(jnp.matmul(scores, x))


def update(x: jax.Array, w: jax.Array) -> jax.Array:
    gradient: jax.Array = jax.grad(lambda x: attention(x, w).sum())(x)
    return x - 0.1 * gradient


def dump_of(function: Any, there: Path, *, donate: bool = False) -> tuple[bytes, jax.stages.Compiled]:
    x, w = (jax.ShapeDtypeStruct((rows, 24), jnp.float32) for rows in (40, 24))  # type: ignore[no-untyped-call]
    lowered = jax.jit(function, donate_argnums=0 if donate else ()).lower(x, w)
    compiled = lowered.compile(compiler_options={"xla_dump_to": str(there), "xla_dump_hlo_as_proto": True})
    (dump,) = there.glob("*after_optimizations.hlo.pb")
    return dump.read_bytes(), compiled


@pytest.mark.parametrize(("function", "donate"), [(attention, False), (update, False), (update, True)])
def test_figures_equal_those_of_the_compiler(function: Any, donate: bool, tmp_path: Path) -> None:
    dump, compiled = dump_of(function, tmp_path, donate=donate)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None
    assert cost is not None
    assert memory.alias_size_in_bytes == (40 * 24 * 4 if donate else 0)
    assert dumped_figures(dump, 0.0) == Figures(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=cost["flops"],
        moved=cost["bytes accessed"],
        unpadded=cost["bytes accessed"],
        exchanged=0.0,
        compile_seconds=0.0,
    )


def test_arrays_are_moved_in_whole_tiles(tmp_path: Path) -> None:
    """(40, 24) floats in tiles of 8 × 128, columns minor-most, take (40, 128); in tiles of 128, (40, 128) too."""
    dump, _ = dump_of(lambda x, w: -x, tmp_path)
    hlo = read_hlo(dump)
    plain = dumped_figures(hlo.SerializeToString(), 0.0)
    assert plain.moved == 2 * 40 * 24 * 4
    for sides, bytes_an_array in (([8, 128], 40 * 128 * 4), ([128], 40 * 128 * 4), ([64, 1], 64 * 24 * 4)):
        hlo = read_hlo(dump)
        for computation in hlo.hlo_module.computations:
            for instruction in computation.instructions:
                if list(instruction.shape.dimensions) == [40, 24]:
                    instruction.shape.layout.tiles.add(dimensions=sides)
        tiled = dumped_figures(hlo.SerializeToString(), 0.0)
        assert tiled.moved == 2 * bytes_an_array
        assert tiled.unpadded == plain.moved
        assert tiled.flops == plain.flops


def test_only_buffers_in_hbm_are_counted(tmp_path: Path) -> None:
    dump, _ = dump_of(attention, tmp_path)
    hlo = read_hlo(dump)
    before = dumped_figures(dump, 0.0).memory
    allocations = hlo.buffer_assignment.buffer_allocations
    allocations.add(size=2**20, color=1)
    allocations.add(size=2**20, is_thread_local=True)
    allocations.add(size=2**20, is_constant=True)
    assert dumped_figures(hlo.SerializeToString(), 0.0).memory == before
    allocations.add(size=2**20)
    assert dumped_figures(hlo.SerializeToString(), 0.0).memory == before + 2**20
