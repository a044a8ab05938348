"""The mesh of devices for sampling or training a cascade.

`data` and `fsdp` divide the rows of a batch. `fsdp` also stores a part of every matrix on each of its devices and
gathers it where it is used. `tensor` divides the matrix products, by columns and then by rows.
"""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from reimagen_generator.config.mesh import MeshConfig

DATA, FSDP, TENSOR = AXES = ("data", "fsdp", "tensor")


def build_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """Return a mesh of the given devices, in which physical neighbors are adjacent.

    Raises:
        ValueError: The product of the axes is not the number of devices.
    """
    return jax.make_mesh(config.sizes(len(devices)), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def available_mesh(config: MeshConfig) -> Mesh | None:
    """Return a mesh of all devices of all hosts; None for a single device, which needs no mesh.

    Raises:
        ValueError: The product of the axes is not the number of devices.
    """
    mesh = build_mesh(config, jax.devices())
    return mesh if mesh.size > 1 else None
