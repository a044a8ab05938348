"""What was compiled is not compiled again; what is compiled is so in another process, which ends.

CPUs' own compiler stands for that of TPUs, which tests do without: it dumps the same kinds of files.
"""

import importlib.metadata
import json
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from reimagen_common.errors import ReimagenError
from reimagen_generator.planning import compiling, tpu
from reimagen_generator.planning.chips import parse_topology
from reimagen_generator.planning.compiling import compiled_figures
from reimagen_generator.planning.dump import dumped_figures
from reimagen_generator.planning.roofline import Figures

FIGURES = Figures(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
V4 = parse_topology("v4:2x2x1")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the compiled programs, of a fake compiler with fixed figures."""
    programs: list[str] = []

    def note(lower: Callable[[], str]) -> Figures:
        programs.append(lower())
        return FIGURES

    monkeypatch.setattr(compiling, "_figures", note)
    return programs


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1")


def figures(program: str, cache: Path, topology: str = "v4:2x2x1") -> Figures:
    lower: Any = lambda: program  # noqa: E731
    return compiled_figures(program, lower, parse_topology(topology), cache)


def test_the_same_program_is_compiled_once(tmp_path: Path, compiled: list[str]) -> None:
    assert figures("add", tmp_path / "new") == figures("add", tmp_path / "new") == FIGURES
    assert compiled == ["add"]
    (file,) = (tmp_path / "new").iterdir()
    assert json.loads(file.read_text()) == asdict(FIGURES)


def test_a_change_of_program_slice_or_compiler_compiles_again(
    tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures("add", tmp_path)
    figures("multiply", tmp_path)
    figures("add", tmp_path, "v4:2x2x2")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 2")
    figures("add", tmp_path)
    assert compiled == ["add", "multiply", "add", "add"]


def product() -> jax.stages.Lowered:
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32)  # type: ignore[no-untyped-call]
    return jax.jit(lambda x: jnp.sort(x @ x.T)).lower(x)


class Refused:
    """Return a program that the compiler refuses."""

    def compile(self, compiler_options: dict[str, str]) -> None:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such operation")


class Endless:
    """Return a program whose dump is quick and whose machine code takes forever."""

    def __init__(self, dump: bytes) -> None:
        self.dump = dump

    def compile(self, compiler_options: dict[str, str]) -> None:
        there = Path(compiler_options["xla_dump_to"])
        (there / "endless.after_optimizations.hlo.pb").write_bytes(self.dump)
        (there / "endless.after_optimizations_after_buffer_assignment.hlo.pb").write_bytes(b"")
        while True:
            threading.Event().wait()


def test_a_program_is_compiled_in_another_process(tmp_path: Path) -> None:
    got = compiled_figures(product().as_text(), product, V4, tmp_path)
    compiled = product().compile()
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None
    assert cost is not None
    assert (got.arguments, got.outputs) == (memory.argument_size_in_bytes, memory.output_size_in_bytes)
    assert (got.flops, got.moved) == (cost["flops"], cost["bytes accessed"])
    assert multiprocessing.active_children() == []


def test_the_compiler_is_ended_before_it_generates_code(tmp_path: Path) -> None:
    product().compile(compiler_options={"xla_dump_to": str(tmp_path / "dump"), "xla_dump_hlo_as_proto": True})
    (dump,) = (tmp_path / "dump").glob("*after_optimizations.hlo.pb")
    lower: Any = partial(Endless, dump.read_bytes())
    got = compiled_figures("endless", lower, V4, tmp_path / "cache")
    assert replace(got, compile_seconds=0.0) == dumped_figures(dump.read_bytes(), 0.0)
    assert multiprocessing.active_children() == []


def test_a_compiler_error_is_reported_and_not_cached(tmp_path: Path) -> None:
    lower: Any = Refused
    with pytest.raises(ReimagenError, match="returned no figures of a program: UNIMPLEMENTED: no such operation"):
        compiled_figures("refused", lower, V4, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert multiprocessing.active_children() == []


def test_without_the_compiler_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ReimagenError, match="make plan"):
        tpu.devices(V4)
