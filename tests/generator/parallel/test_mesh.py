"""Several devices compute the same as one."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from reimagen_generator.config.mesh import MeshConfig
from reimagen_generator.settings import Hosts

# The tolerance of rounding: sums have another order on each mesh.
TOLERANCE = 1e-5


MESHES = ("8x1x1", "2x2x2", "1x4x2")


def start(what: str, references: Path, devices: int, meshes: Sequence[str], **settings: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("eight_devices.py")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | settings
    environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, program, what, references, *meshes], env=environment, stdout=pipe, stderr=pipe, text=True
    )


def differences(process: subprocess.Popen[str], meshes: Sequence[str]) -> dict[str, float]:
    with process:
        reported, errors = process.communicate()
    assert process.returncode == 0, errors
    found: dict[str, float] = json.loads(reported.splitlines()[-1])  # the connection of hosts prints first
    assert tuple(found) == tuple(meshes)
    return found


@pytest.fixture(scope="module")
def gradient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Return the folder of the gradient on one device, and the differences of those on meshes from it."""
    folder = tmp_path_factory.mktemp("references")
    # The test of two hosts has the mesh of all axes.
    meshes = ("8x1x1", "1x4x2")
    return folder, differences(start("gradient", folder, 8, meshes), meshes)


def test_eight_devices_draw_the_same_as_one(tmp_path: Path) -> None:
    found = differences(start("drawing", tmp_path, 8, MESHES), MESHES)
    assert max(found.values()) < TOLERANCE, found


def test_eight_devices_give_the_same_gradient_as_one(gradient: tuple[Path, dict[str, float]]) -> None:
    assert max(gradient[1].values()) < TOLERANCE, gradient[1]


def test_two_hosts_of_four_devices_give_the_same_gradient_as_one_device(
    gradient: tuple[Path, dict[str, float]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    prefix = "REIMAGEN_GENERATOR_"
    mesh = ("2x2x2",)
    common = {f"{prefix}COORDINATOR": address, f"{prefix}PROCESSES": "2"}
    settings = [common | {f"{prefix}PROCESS": str(number)} for number in range(2)]
    hosts = [start("gradient", gradient[0], 4, mesh, **each) for each in settings]
    try:
        for host in hosts:
            found = differences(host, mesh)
            assert max(found.values()) < TOLERANCE, found
    finally:
        for host in hosts:
            with host:
                host.kill()


def test_a_coordinator_needs_processes_and_process() -> None:
    assert Hosts().coordinator is None
    with pytest.raises(ValidationError, match="processes, process: must both be set"):
        Hosts(coordinator="10.0.0.1:1234", processes=2)


def test_the_data_axis_takes_the_remaining_devices() -> None:
    assert MeshConfig().sizes(8) == (8, 1, 1)
    assert MeshConfig(fsdp=2, tensor=2).sizes(8) == (2, 2, 2)
    assert MeshConfig(data=1, fsdp=8).sizes(8) == (1, 8, 1)


@pytest.mark.parametrize("config", [MeshConfig(data=2), MeshConfig(fsdp=3), MeshConfig(tensor=16)])
def test_axes_that_do_not_multiply_to_the_devices_are_refused(config: MeshConfig) -> None:
    with pytest.raises(ValueError, match=r"^mesh: data × fsdp × tensor must be the number of devices, 8, got"):
        config.sizes(8)
