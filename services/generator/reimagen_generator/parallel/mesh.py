"""The mesh of devices that a cascade is drawn or trained on.

`data` and `fsdp` share out the rows of a batch; `fsdp` also keeps a share of every matrix on each of its devices and
brings it together where it is used; `tensor` shares out the products themselves, by columns and then by rows.
"""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from reimagen_generator.config.mesh import MeshConfig

DATA, FSDP, TENSOR = AXES = ("data", "fsdp", "tensor")


def build_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of the given devices, those that lie side by side being neighbors in it.

    Raises:
        ValueError: the axes do not make up all devices.
    """
    return jax.make_mesh(config.sizes(len(devices)), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def available_mesh(config: MeshConfig) -> Mesh | None:
    """A mesh of all devices of all hosts; None for a single device, which needs none.

    Raises:
        ValueError: the axes do not make up all devices.
    """
    mesh = build_mesh(config, jax.devices())
    return mesh if mesh.size > 1 else None
