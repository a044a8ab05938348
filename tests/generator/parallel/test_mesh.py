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


# Compilation takes most of the time, so optimizations are disabled.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
MESHES = ("8x1x1", "2x2x2", "1x4x2")


def start(what: str, devices: int, meshes: Sequence[str] = MESHES, **settings: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("eight_devices.py")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | settings
    environment["XLA_FLAGS"] = f"{FLAGS} --xla_force_host_platform_device_count={devices}"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, program, what, *meshes], env=environment, stdout=pipe, stderr=pipe, text=True
    )


def differences(process: subprocess.Popen[str], meshes: Sequence[str] = MESHES) -> dict[str, float]:
    with process:
        reported, errors = process.communicate()
    assert process.returncode == 0, errors
    found: dict[str, float] = json.loads(reported.splitlines()[-1])  # the connection of hosts prints first
    assert tuple(found) == tuple(meshes)
    return found


@pytest.mark.parametrize("what", ["drawing", "gradient"])
def test_eight_devices_give_the_same_as_one(what: str) -> None:
    found = differences(start(what, 8))
    assert max(found.values()) < TOLERANCE, found


def test_two_hosts_of_four_devices_give_the_same_as_one_device() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    prefix = "REIMAGEN_GENERATOR_"
    # A mesh of all axes is enough: the other test compares the meshes.
    mesh = ("2x2x2",)
    common = {f"{prefix}COORDINATOR": address, f"{prefix}PROCESSES": "2"}
    hosts = [start("gradient", 4, mesh, **common, **{f"{prefix}PROCESS": str(number)}) for number in range(2)]
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
