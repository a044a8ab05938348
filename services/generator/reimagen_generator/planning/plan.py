"""The plan of a cascade: compiled for a slice of TPUs, program by program, and reckoned against its peaks."""

from collections.abc import Iterator
from pathlib import Path

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.mesh import MeshConfig
from reimagen_generator.parallel.mesh import build_mesh
from reimagen_generator.planning import report, tpu
from reimagen_generator.planning.chips import parse_topology
from reimagen_generator.planning.compiling import compiled_figures
from reimagen_generator.planning.programs import drawing


def plan(
    config: CascadeConfig, topology: str, mesh: MeshConfig, *, batch: int, neighbors: int, train: bool, cache: Path
) -> Iterator[str]:
    """Lines of the plan, each as soon as it is known.

    Args:
        config: the cascade.
        topology: a slice, such as `v4:2x2x1`.
        mesh: how its devices share out the work.
        batch: pictures at once.
        neighbors: of each picture.
        train: a training step of each stage, instead of a drawing.
        cache: folder of the figures of what was compiled.

    Raises:
        ReimagenError: the compiler of TPUs is not installed.
        ValueError: the slice is unknown, or the mesh does not make it up.
    """
    there = parse_topology(topology)
    devices = build_mesh(mesh, tpu.devices(there))
    sizes = ", ".join(f"{axis} {size}" for axis, size in devices.shape.items())
    what = "a training step of" if train else "drawing"
    yield f"{config.name} on {there.name} ({sizes}): {what} {batch} pictures, {neighbors} neighbors each"
    yield ""
    if train:
        # Training brings dependencies that drawing does without.
        from reimagen_generator.planning.training import training

        programs = training(config, batch, neighbors, devices)
    else:
        programs = drawing(config, batch, neighbors, devices)
    planned = (report.Planned(one, compiled_figures(one.lower(), there, cache)) for one in programs)
    yield from report.training_table(planned, there) if train else report.drawing_table(planned, there)
