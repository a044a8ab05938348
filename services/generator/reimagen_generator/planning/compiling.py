"""Compilation of programs to cached figures: optimizing a network of billions of parameters takes minutes.

The compiler first optimizes a program and lays out its memory. Then it generates machine code, which takes most of the
time and is not needed for a plan. It has no option to stop in between. So it runs in a separate process, which is
killed when the compiler has dumped the optimized program.
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
"""The dump that is written next; when it exists, the first dump is complete."""
_ERROR = "error.txt"
_POLL_S = 0.2
_READING = "3"
"""Version of the reading of dumps; a new number invalidates the cached figures."""

Lower = Callable[[], jax.stages.Lowered]
"""A picklable function that creates a program."""


def compiled_figures(program: str, lower: Lower, topology: Topology, cache: Path) -> Figures:
    """Return the figures of a program, from the cache if the identical program was compiled before.

    Args:
        program: The program as text.
        lower: The function that creates the program, called in the process that compiles it.
        topology: The slice for which to compile.
        cache: Folder of one file per program.

    Raises:
        ReimagenError: The compiler rejects the program.
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
        dump_folder = Path(folder)
        start = time.monotonic()
        compiler = multiprocessing.get_context("spawn").Process(target=_compile, args=(lower, dump_folder))
        compiler.start()
        try:
            while compiler.is_alive() and not any(dump_folder.glob(_NEXT_DUMP)):
                compiler.join(_POLL_S)
        finally:
            compiler.kill()
            compiler.join()
        dumps = list(dump_folder.glob(_DUMP))
        if len(dumps) != 1:
            error = dump_folder / _ERROR
            why = (
                error.read_text() if error.is_file() else f"it ended with exit code {compiler.exitcode} without a dump"
            )
            raise ReimagenError(f"plan: the TPU compiler returned no figures of a program: {why}")
        return dumped_figures(dumps[0].read_bytes(), time.monotonic() - start)


def _compile(lower: Lower, folder: Path) -> None:
    """Compile a program. Runs in a separate process until that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A program from JAX's cache would not be laid out.
    jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
    try:
        lower().compile(compiler_options={"xla_dump_to": str(folder), "xla_dump_hlo_as_proto": True})
    except jax.errors.JaxRuntimeError as error:
        (folder / _ERROR).write_text(str(error))


def _end_with_parent() -> None:
    """End this process with its parent. Otherwise the compiler of a killed plan would run for hours."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _key(program: str, topology: Topology) -> str:
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")]
    return hashlib.sha256("\0".join([program, topology.name, *versions, _READING]).encode()).hexdigest()[:32]
