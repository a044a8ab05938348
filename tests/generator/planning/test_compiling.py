"""What was compiled is not compiled again. A compiler that counts stands for the TPUs' own, which tests do without."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from reimagen_common.errors import ReimagenError
from reimagen_generator.planning import compiling, tpu
from reimagen_generator.planning.chips import parse_topology
from reimagen_generator.planning.roofline import Figures

FIGURES = Figures(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
V4 = parse_topology("v4:2x2x1")


class Lowered:
    """A program by its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.compiled = 0

    def as_text(self) -> str:
        return self.text

    def compile(self) -> None:
        self.compiled += 1


@pytest.fixture(autouse=True)
def _compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_figures", lambda *_: FIGURES)
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 1")


def figures(lowered: Any, cache: Path, topology: str = "v4:2x2x1") -> Figures:
    return compiling.compiled_figures(lowered, parse_topology(topology), cache)


def test_the_same_program_is_compiled_once(tmp_path: Path) -> None:
    first, again = Lowered("add"), Lowered("add")
    assert figures(first, tmp_path / "new") == figures(again, tmp_path / "new") == FIGURES
    assert (first.compiled, again.compiled) == (1, 0)
    (file,) = (tmp_path / "new").iterdir()
    assert json.loads(file.read_text()) == asdict(FIGURES)


def test_another_program_slice_or_compiler_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures(Lowered("add"), tmp_path)
    other, elsewhere, later = Lowered("multiply"), Lowered("add"), Lowered("add")
    figures(other, tmp_path)
    figures(elsewhere, tmp_path, "v4:2x2x2")
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 2")
    figures(later, tmp_path)
    assert (other.compiled, elsewhere.compiled, later.compiled) == (1, 1, 1)


def test_without_the_compiler_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ReimagenError, match="make plan"):
        tpu.devices(V4)
