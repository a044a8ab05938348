"""The wheel of the client package."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel from a copy, because building leaves files in the source."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "client", folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*command, "--wheel-dir", folder, folder / "source"], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_the_package_its_types_and_its_command(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    packages = {name.partition("/")[0] for name in names}
    assert {name for name in packages if not name.endswith(".dist-info")} == {"reimagen_client"}
    assert {"reimagen_client/py.typed", "reimagen_client/command/main.py"} <= names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert b"reimagen = reimagen_client.command.main:app" in wheel.read(entry_points)


def test_the_wheel_needs_nothing_of_the_services(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*(;.*)?$", wheel.read(metadata).decode(), re.MULTILINE)
    required = {name for name, condition in lines if not condition}
    assert required == {"httpx", "pillow", "pydantic", "rich", "typer"}
    assert {name for name, _ in lines if name.startswith("reimagen")} == {"reimagen-proto"}


def test_importing_the_client_imports_neither_grpc_nor_jax() -> None:
    code = "import sys, reimagen_client; print(sorted({'grpc', 'jax', 'numpy', 'fastapi'} & sys.modules.keys()))"
    environment = {"PYTHONPATH": str(ROOT / "client")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
