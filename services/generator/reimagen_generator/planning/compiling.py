"""Compiling programs, whose figures are kept: a network of billions of parameters takes minutes to compile."""

import hashlib
import importlib.metadata
import json
import time
from dataclasses import asdict
from pathlib import Path

import jax

from reimagen_generator.planning.chips import Topology
from reimagen_generator.planning.exchange import exchanged_bytes
from reimagen_generator.planning.roofline import Figures


def compiled_figures(lowered: jax.stages.Lowered, topology: Topology, cache: Path) -> Figures:
    """The figures of a program, from the cache where the very same program was compiled before.

    Args:
        lowered: the program.
        topology: what it is compiled for.
        cache: folder of one file a program.
    """
    file = cache / f"{_key(lowered.as_text(), topology)}.json"
    if file.is_file():
        return Figures(**json.loads(file.read_text()))
    begun = time.monotonic()
    figures = _figures(lowered.compile(), time.monotonic() - begun)
    cache.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(figures)))
    partial.rename(file)
    return figures


def _figures(compiled: jax.stages.Compiled, compile_seconds: float) -> Figures:
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert memory is not None  # the compiler of TPUs tells all three
    assert cost is not None
    assert text is not None
    return Figures(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=cost["flops"],
        moved=cost["bytes accessed"],
        exchanged=exchanged_bytes(text),
        compile_seconds=compile_seconds,
    )


def _key(program: str, topology: Topology) -> str:
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")]
    return hashlib.sha256("\0".join([program, topology.name, *versions]).encode()).hexdigest()[:32]
