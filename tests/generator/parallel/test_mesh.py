"""What several devices compute is what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reimagen_generator.config.mesh import MeshConfig

# Where rounding ends: sums are taken in another order on each mesh.
TOLERANCE = 1e-5


@pytest.mark.parametrize("what", ["drawing", "gradient"])
def test_eight_devices_give_what_one_does(what: str) -> None:
    program = Path(__file__).with_name("eight_devices.py")
    # Compiling takes most of the time, and a fast program is of no use here.
    flags = (
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    )
    environment = os.environ | {"XLA_FLAGS": " ".join(flags), "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run([sys.executable, program, what], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    differences = json.loads(run.stdout)
    assert differences.keys() == {"8x1x1", "2x2x2", "1x4x2"}
    assert max(map(max, differences.values())) < TOLERANCE, differences


def test_data_takes_the_devices_that_are_left() -> None:
    assert MeshConfig().sizes(8) == (8, 1, 1)
    assert MeshConfig(fsdp=2, tensor=2).sizes(8) == (2, 2, 2)
    assert MeshConfig(data=1, fsdp=8).sizes(8) == (1, 8, 1)


@pytest.mark.parametrize("config", [MeshConfig(data=2), MeshConfig(fsdp=3), MeshConfig(tensor=16)])
def test_axes_that_do_not_make_up_the_devices_are_refused(config: MeshConfig) -> None:
    with pytest.raises(ValueError, match=r"^mesh: data × fsdp × tensor must be the number of devices, 8, got"):
        config.sizes(8)
