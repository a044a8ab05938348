"""A cascade on disk: `cascade.json` and one safetensors file a stage, named by its size.

Weights are stored in float16, half the space, and used in float32.
"""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ValidationError

from reimagen_common.errors import first_fault
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.networks import AnyNetworkConfig
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.networks.network import Network
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.networks.registry import network_shapes, placement_shapes
from reimagen_generator.weights.shards import StoredTensors, TensorSpec, write_tensors

CONFIG_FILE = "cascade.json"
PLACEMENT_FILE = "placement.safetensors"
_Module = TypeVar("_Module", bound=nnx.Module)


def stage_file(size: int) -> str:
    """The name of a stage's weights."""
    return f"stage-{size}.safetensors"


def save_network(network: nnx.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a network's weights, complete or not at all, in place of those that are there.

    Raises:
        ValueError: a number is not finite, or too large for float16.
    """
    parameters = named(nnx.state(network, nnx.Param))
    tensors = {name: TensorSpec(value.shape, partial(np.asarray, value[...])) for name, value in parameters.items()}
    written = write_tensors(path, tensors, np.dtype(np.float16), metadata or {})
    for stale in set(_files(path)) - set(written):
        stale.unlink()


def copy_missing_weights(config: CascadeConfig, source: Path, target: Path) -> None:
    """Copies the weights that a cascade's folder lacks from another one's, so that it is whole."""
    names = [stage_file(stage.size) for stage in config.stages] + [PLACEMENT_FILE] * (config.placement is not None)
    for name in names:
        if not _files(target / name):
            for file in sorted(_files(source / name)):  # an index comes last
                shutil.copyfile(file, target / file.name)


def _files(path: Path) -> list[Path]:
    """A stage's file, or its several and their index."""
    return list(path.parent.glob(f"{path.stem}[.-]*"))


def load_network(path: Path, config: AnyNetworkConfig, *, on_host: bool = False) -> Network:
    """A network of stored weights; nothing is initialised or read before every name and shape has been compared.

    Args:
        path: the weights.
        config: the network's.
        on_host: leaves the numbers in the host's memory, for several devices of which none has room for all.

    Raises:
        ValueError: the file is missing or damaged, or a tensor is missing, left over or of another shape, by its name.
    """
    return _loaded(path, network_shapes(config), on_host=on_host)


def load_placement(path: Path, config: PlacementConfig, *, on_host: bool = False) -> PlacementNetwork:
    """Return a placement network of stored weights, as `load_network` does.

    Raises:
        ValueError: the file is missing or damaged, or a tensor is missing, left over or of another shape, by its name.
    """
    return _loaded(path, placement_shapes(config), on_host=on_host)


def load_matching(path: Path, network: nnx.Module) -> tuple[int, int]:
    """Load the tensors that a network has by the same names and in the same shapes.

    Returns:
        How many numbers were loaded, and how many the network has.

    Raises:
        ValueError: the file is missing or damaged.
    """
    state = nnx.state(network, nnx.Param)
    wanted, taken = named(state), 0
    index = path.with_name(f"{path.name}.index.json")
    with StoredTensors(index if index.is_file() else path) as stored:
        for name, value in wanted.items():
            if stored.shapes.get(name) == value.shape:
                tensor = stored.read(name).astype(np.float32)
                value.set_value(jnp.asarray(tensor))
                taken += tensor.size
    nnx.update(network, state)
    return taken, sum(value.size for value in wanted.values())


def _loaded(path: Path, network: _Module, *, on_host: bool) -> _Module:
    state = nnx.state(network, nnx.Param)
    wanted = named(state)
    index = path.with_name(f"{path.name}.index.json")
    with StoredTensors(index if index.is_file() else path) as stored:
        for name in sorted(wanted.keys() ^ stored.shapes.keys()):
            raise ValueError(f"weights: {path} {'lacks' if name in wanted else 'has an unknown'} tensor {name}")
        for name, value in wanted.items():
            if stored.shapes[name] != value.shape:
                raise ValueError(f"weights: {path}: {name} has shape {stored.shapes[name]}, expected {value.shape}")
        for name in stored.shapes:
            tensor = stored.read(name).astype(np.float32)
            wanted[name].set_value(tensor if on_host else jnp.asarray(tensor))
    nnx.update(network, state)
    return network


def save_config(config: CascadeConfig, folder: Path) -> None:
    """Writes `cascade.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load_config(folder: Path) -> CascadeConfig:
    """Reads `cascade.json`.

    Raises:
        ValueError: it is not there, or not a cascade's configuration.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"weights: there is no {CONFIG_FILE} in {folder}")
    try:
        return CascadeConfig.model_validate_json(path.read_text())
    except ValidationError as error:
        raise ValueError(f"weights: {path} is not a cascade's configuration: {first_fault(error)}") from error


def digest(folder: Path) -> str:
    """SHA-256 of a cascade's configuration and weights, in hexadecimal digits: another one draws other images."""
    whole = hashlib.sha256()
    for path in sorted([folder / CONFIG_FILE, *folder.glob("stage-*"), *folder.glob(PLACEMENT_FILE)]):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def named(state: nnx.State[Any, Any]) -> dict[str, nnx.Param[Any]]:
    """Parameters by the names under which they are stored."""
    return {".".join(map(str, path)): value for path, value in nnx.to_flat_state(state)}
