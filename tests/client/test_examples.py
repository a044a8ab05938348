"""The examples of the client package, and the commands and code of its page, against a real generator."""

import os
import re
import subprocess
import sys
from pathlib import Path

from reimagen_client.provenance import inspect
from tests.client.conftest import PROMPT, Service, png

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/client.md"
PHOTOGRAPH = ROOT / "tests/generator/cut_out/data/coffee.jpg"


def run(service: Service, *command: str | Path, folder: Path = ROOT) -> list[str]:
    """Run Python in a folder, and return the lines that it prints."""
    environment = os.environ | {"REIMAGEN_BASE_URL": service.base_url, "REIMAGEN_GRPC": service.grpc}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_client_saves_an_image(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "fox.png"
    assert run(service, "examples/client.py", PROMPT, file) == ["fox/1?: a red fox (MIT)"]
    assert inspect(file).prompt == PROMPT


def test_the_asynchronous_client_saves_images(service: Service, tmp_path: Path) -> None:
    lines = run(service, "examples/async_client.py", tmp_path / "out", PROMPT, "a kea at night")
    assert [line.partition(": grounded on ")[2] for line in lines] == ["a red fox", "a kea"]
    assert {inspect(file).prompt for file in (tmp_path / "out").iterdir()} == {PROMPT, "a kea at night"}


def test_the_code_of_the_page_runs(service: Service, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png((200, 10, 90)))
    (tmp_path / "photograph.jpg").write_bytes(PHOTOGRAPH.read_bytes())
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        run(service, "-c", block.replace('"https://images.example.org"', "None"), folder=tmp_path)
    assert (tmp_path / "out").is_dir()
    assert list((tmp_path / "out").iterdir())


def test_the_commands_of_the_page_run(service: Service, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png((200, 10, 90)))
    (tmp_path / "photograph.jpg").write_bytes(PHOTOGRAPH.read_bytes())
    (block,) = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    program = tmp_path / "bin" / "reimagen"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom reimagen_client.command.main import app\napp(prog_name='reimagen')\n")
    program.chmod(0o755)
    environment = os.environ | {
        "REIMAGEN_BASE_URL": service.base_url,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(["bash", "-euc", block], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mine/fox: added" in done.stdout
    assert "mine/fox: removed" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) >= 3
