"""`make demo` in small: a few entities and the tiny cascade, but the real art, services and Redis."""

import os
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from reimagen_demo.__main__ import Sample, demonstrate
from reimagen_demo.art.entities import entities
from reimagen_demo.report.ablation_sheet import compare
from reimagen_demo.stack.client import draw
from reimagen_demo.stack.processes import ChildError
from reimagen_demo.stack.running import running
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.generation import provenance
from tests.waiting import LoggedProcess

SECONDS = 300
FEW = tuple(entity for entity in entities() if entity.name in {"panda", "violin"})
SAMPLES = (Sample("a panda in the snow", 32, seed=1), Sample("a violin on a stage", 64, seed=2))

# `make demo` with a few entities.
DRIVER = """
import sys
from pathlib import Path
from reimagen_demo import __main__ as demo
from reimagen_demo.stack.client import draw
from reimagen_demo.art.entities import entities
from reimagen_demo.stack.running import report_errors

few = tuple(entity for entity in entities() if entity.name in {"panda", "violin"})
samples = (demo.Sample("a panda in the snow", 16, seed=1),)
with report_errors():
    demo.demonstrate(Path(sys.argv[1]), Path(sys.argv[2]), known=few, samples=samples, stay=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of built files, shared by all runs: a second `make demo` finds the files of the first."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(autouse=True)
def weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "weights"
    if not path.exists():
        Cascade.random(TINY, seed=0).save(path)
    monkeypatch.setenv("REIMAGEN_GENERATOR_WEIGHTS", str(path))
    return path


def left_running(folder: Path) -> list[str]:
    """Return the commands of running processes that mention the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command and process.parent.name != str(os.getpid()):
            found.append(command)
    return found


def test_images_have_their_provenance(folder: Path, tmp_path: Path) -> None:
    demonstrate(folder, tmp_path, known=FEW, samples=SAMPLES, stay=False)
    for number, sample in enumerate(SAMPLES, start=1):
        path = tmp_path / f"{number}-{sample.prompt.replace(' ', '-')}-{sample.size}.png"
        with Image.open(path) as image:
            assert image.size == (sample.size, sample.size)
        origin = provenance.read(path)
        assert origin.prompt == sample.prompt
        assert {neighbor.caption for neighbor in origin.neighbors} == {sample.prompt.split(" in ")[0].split(" on ")[0]}
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 3 * 256
        assert sheet.height > 2 * 256
    assert not left_running(folder)


def test_a_prompt_is_drawn_with_and_without_its_neighbors(folder: Path) -> None:
    with running(folder, FEW) as system:
        url = system.generator.url
        (row,) = compare(url, ["a panda in the snow"], size=16)
        assert draw(url, "a panda in the snow", 16, seed=1, k=0).neighbors == ()
        with pytest.raises(RuntimeError, match="nothing was found"):
            compare(url, ["a submarine"], size=16)
    assert [text.split(" (")[0] for _, text in row.neighbors] == ["a panda", "a panda"]
    assert [(image.size, text.split("\n")[0]) for image, text in row.drawn] == [
        ((16, 16), "with retrieval"),
        ((16, 16), "without"),
    ]
    assert not left_running(folder)


def test_a_failed_service_is_reported_and_the_others_are_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIMAGEN_GENERATOR_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(ChildError, match=r"(?s)reimagen-generator ended.*generator\.log.*weights"):
        demonstrate(folder, tmp_path / "out", known=FEW, samples=SAMPLES, stay=False)
    assert not left_running(folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-u", "-c", DRIVER, str(folder), str(tmp_path / "out")]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with LoggedProcess(command, environment, stdout=True) as process:
        process.wait_for_line("Serving until Ctrl-C")
        (url,) = re.findall(r"^The REST API is at (\S+),", process.log, re.MULTILINE)
        assert httpx.get(f"{url}/readyz", timeout=SECONDS).is_success
        process.popen.send_signal(number)
        assert process.popen.wait(SECONDS) == 0, process.log
    assert process.log.rstrip().endswith("stopped")
    assert not left_running(folder)
