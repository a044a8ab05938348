"""The plan of a cascade: compiled for a slice of TPUs, program by program, and reckoned against its peaks."""

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
    """What is to be planned."""

    config: CascadeConfig
    topology: str
    """A slice, such as `v4:2x2x1`."""
    mesh: MeshConfig
    """How its devices share out the work."""
    batch: int
    """Images at once."""
    neighbors: int
    """Of each image."""
    train: bool
    """A training step of each stage, instead of a drawing."""

    def devices(self) -> jax.sharding.Mesh:
        """Stand-ins for the slice's devices.

        Raises:
            ReimagenError: the compiler of TPUs is not installed.
            ValueError: the slice is unknown, or the mesh does not make it up.
        """
        return build_mesh(self.mesh, tpu.devices(parse_topology(self.topology)))

    def programs(self) -> Iterator[Program]:
        """What runs on it, the same at each call.

        Raises:
            ReimagenError, ValueError: as `devices` does.
        """
        if self.train:
            # Training brings dependencies that drawing does without.
            from reimagen_generator.planning.training import training

            return training(self.config, self.batch, self.neighbors, self.devices())
        return drawing(self.config, self.batch, self.neighbors, self.devices())


def plan(request: Request, cache: Path) -> Iterator[str]:
    """Lines of the plan, each as soon as it is known.

    Args:
        request: what is to be planned.
        cache: folder of the figures of what was compiled.

    Raises:
        ReimagenError: the compiler of TPUs is not installed, or refuses a program.
        ValueError: the slice is unknown, or the mesh does not make it up.
    """
    there = parse_topology(request.topology)
    sizes = ", ".join(f"{axis} {size}" for axis, size in request.devices().shape.items())
    what = "a training step of" if request.train else "drawing"
    yield (
        f"{request.config.name} on {there.name} ({sizes}): {what} {request.batch} images, "
        f"{request.neighbors} neighbors each"
    )
    yield ""
    planned = (
        report.Planned(one, compiled_figures(one.lower().as_text(), partial(_lower, request, index), there, cache))
        for index, one in enumerate(request.programs())
    )
    yield from report.training_table(planned, there) if request.train else report.drawing_table(planned, there)


def _lower(request: Request, index: int) -> jax.stages.Lowered:
    """One of the programs, in another process."""
    return next(islice(request.programs(), index, None)).lower()
