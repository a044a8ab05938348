"""The TPU compiler on a machine without TPUs."""

import importlib.util
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from reimagen_common.errors import ReimagenError
from reimagen_generator.planning.chips import Topology

# Values that libtpu would otherwise request from a TPU host, and wait for; and permission for several compilers at
# once.
_NO_HOST = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


def devices(topology: Topology) -> Sequence[jax.Device]:
    """Return stand-ins for a slice's devices, for which programs can be compiled but not run.

    Raises:
        ReimagenError: libtpu is not installed.
        ValueError: There is no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ReimagenError(
            "plan: the TPU compiler libtpu is not installed; install it with `make plan` or with the extra `plan` of "
            "the package reimagen-generator"
        )
    for name, value in _NO_HOST.items():
        os.environ.setdefault(name, value)
    options: dict[str, object] = {"chips_per_host_bounds": topology.host}
    if topology.chip.cores is not None:
        options["chip_config_name"] = topology.chip.cores
    try:
        return topologies.get_topology_desc(topology.name, "tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"topology: the TPU compiler does not support {topology.name}: {error}") from error
