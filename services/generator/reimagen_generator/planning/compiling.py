"""The figures of programs, which are kept: optimizing a network of billions of parameters takes minutes.

The compiler first optimizes a program and lays out its memory, and then generates machine code, which takes most of the
time and of which a plan needs nothing. It cannot be told to stop between the two. So it runs in a process of its own,
which is ended once the compiler has dumped what it made of the program.
"""

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import jax

from reimagen_common.errors import ReimagenError
from reimagen_generator.planning.chips import Topology
from reimagen_generator.planning.dump import dumped_figures
from reimagen_generator.planning.roofline import Figures

_DUMP = "*after_optimizations.hlo.pb"
_NEXT_DUMP = "*.after_optimizations_after_buffer_assignment.hlo.pb"
"""Is written after the other, which is whole when this one is there."""
_ERROR = "error.txt"
_POLL_S = 0.2
_READING = "2"
"""Another number makes figures that were read in another way be forgotten."""

Lower = Callable[[], jax.stages.Lowered]
"""Makes a program, and can be pickled."""


def compiled_figures(program: str, lower: Lower, topology: Topology, cache: Path) -> Figures:
    """The figures of a program, from the cache where the very same program was compiled before.

    Args:
        program: as text.
        lower: makes it anew, in the process that compiles it.
        topology: what it is compiled for.
        cache: folder of one file a program.

    Raises:
        ReimagenError: the compiler refuses the program.
    """
    file = cache / f"{_key(program, topology)}.json"
    if file.is_file():
        return Figures(**json.loads(file.read_text()))
    figures = _figures(lower)
    cache.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(figures)))
    partial.rename(file)
    return figures


def _figures(lower: Lower) -> Figures:
    with tempfile.TemporaryDirectory(prefix="reimagen-plan-") as folder:
        there = Path(folder)
        begun = time.monotonic()
        compiler = multiprocessing.get_context("spawn").Process(target=_compile, args=(lower, there))
        compiler.start()
        try:
            while compiler.is_alive() and not any(there.glob(_NEXT_DUMP)):
                compiler.join(_POLL_S)
        finally:
            compiler.kill()
            compiler.join()
        dumps = list(there.glob(_DUMP))
        if len(dumps) != 1:
            error = there / _ERROR
            why = error.read_text() if error.is_file() else f"it ended with {compiler.exitcode} and dumped nothing"
            raise ReimagenError(f"plan: the compiler of TPUs gives no figures of a program: {why}")
        return dumped_figures(dumps[0].read_bytes(), time.monotonic() - begun)


def _compile(lower: Lower, folder: Path) -> None:
    """Compiles a program, in a process of its own, until that is ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A program that JAX keeps would not be laid out.
    jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
    try:
        lower().compile(compiler_options={"xla_dump_to": str(folder), "xla_dump_hlo_as_proto": True})
    except jax.errors.JaxRuntimeError as error:
        (folder / _ERROR).write_text(str(error))


def _end_with_parent() -> None:
    """Whoever kills a plan would leave its compiler at work for hours."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _key(program: str, topology: Topology) -> str:
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")]
    return hashlib.sha256("\0".join([program, topology.name, *versions, _READING]).encode()).hexdigest()[:32]
