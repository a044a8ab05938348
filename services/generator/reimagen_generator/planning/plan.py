"""The plan of a cascade: its programs are compiled for a TPU slice and compared with the slice's peak rates."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import jax

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.mesh import MeshConfig
from reimagen_generator.parallel.mesh import build_mesh
from reimagen_generator.planning import report, tpu
from reimagen_generator.planning.chips import parse_topology
from reimagen_generator.planning.compiling import compiled_figures
from reimagen_generator.planning.programs import Program, drawing


@dataclass(frozen=True)
class Request:
    """The parameters of a plan."""

    config: CascadeConfig
    topology: str
    """The slice, such as `v4:2x2x1`, or GPUs, such as `h100:4`."""
    mesh: MeshConfig
    """How the slice's devices divide the work."""
    batch: int
    """Number of images in a batch."""
    neighbors: int
    """Number of neighbors of each image."""
    train: bool
    """Whether to plan a training step of each stage instead of sampling."""

    def devices(self) -> jax.sharding.Mesh:
        """Return stand-ins for the slice's devices.

        Raises:
            ReimagenError: The TPU compiler is not installed.
            ValueError: The slice is unknown, or the mesh does not have its number of devices.
        """
        return build_mesh(self.mesh, tpu.devices(parse_topology(self.topology).compiled))

    def programs(self) -> Iterator[Program]:
        """Return the programs to compile, the same at each call.

        Raises:
            ReimagenError, ValueError: As for `devices`.
        """
        if self.train:
            # Training has dependencies that sampling does not need.
            from reimagen_generator.planning.training import training

            return training(self.config, self.batch, self.neighbors, self.devices())
        return drawing(self.config, self.batch, self.neighbors, self.devices())


def plan(request: Request, cache: Path) -> Iterator[str]:
    """Yield the lines of the plan as they become available.

    Args:
        request: The parameters of the plan.
        cache: Folder of the cached figures.

    Raises:
        ReimagenError: The TPU compiler is not installed, or rejects a program.
        ValueError: The slice is unknown, or the mesh does not have its number of devices.
    """
    slice_topology = parse_topology(request.topology)
    sizes = ", ".join(f"{axis} {size}" for axis, size in request.devices().shape.items())
    what = "a training step of" if request.train else "drawing"
    yield (
        f"{request.config.name} on {slice_topology.name} ({sizes}): {what} {request.batch} images, "
        f"{request.neighbors} neighbors each"
    )
    yield ""
    planned = (
        report.Planned(
            one,
            compiled_figures(one.lower().as_text(), partial(_lower, request, index), slice_topology.compiled, cache),
        )
        for index, one in enumerate(request.programs())
    )
    yield from (
        report.training_table(planned, slice_topology)
        if request.train
        else report.drawing_table(planned, slice_topology)
    )


def _lower(request: Request, index: int) -> jax.stages.Lowered:
    """Create one of the programs, in another process."""
    return next(islice(request.programs(), index, None)).lower()
