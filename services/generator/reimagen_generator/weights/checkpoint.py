"""A cascade on disk: `cascade.json` and one safetensors file per stage, named after its size.

Weights are stored in float16, which takes half the space, and used in float32.
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
    """Return the file name of a stage's weights."""
    return f"stage-{size}.safetensors"


def save_network(network: nnx.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a network's weights in place of existing ones; after an error, no partial file is left.

    Raises:
        ValueError: A number is not finite, or too large for float16.
    """
    parameters = named(nnx.state(network, nnx.Param))
    tensors = {name: TensorSpec(value.shape, partial(np.asarray, value[...])) for name, value in parameters.items()}
    written = write_tensors(path, tensors, np.dtype(np.float16), metadata or {})
    for stale in set(_files(path)) - set(written):
        stale.unlink()


def copy_missing_weights(config: CascadeConfig, source: Path, target: Path) -> None:
    """Copy the weights that a cascade's folder lacks from another folder, so that it is complete."""
    for name in _names(config):
        if not _files(target / name):
            for file in sorted(_files(source / name)):  # an index comes last
                shutil.copyfile(file, target / file.name)


def _names(config: CascadeConfig) -> list[str]:
    """Return the names of a cascade's files of weights."""
    return [stage_file(stage.size) for stage in config.stages] + [PLACEMENT_FILE] * (config.placement is not None)


def _files(path: Path) -> list[Path]:
    """Return a stage's file, or its shards and their index."""
    return list(path.parent.glob(f"{path.stem}[.-]*"))


def load_network(path: Path, config: AnyNetworkConfig, *, on_host: bool = False) -> Network:
    """Return a network with stored weights, after a check of every name and shape.

    Args:
        path: The file of the weights.
        config: The network's configuration.
        on_host: Whether to leave the weights in the host's memory, for several devices of which none can hold them all.

    Raises:
        ValueError: The file is missing or damaged, or a tensor is missing, unknown or of another shape, with its name.
    """
    return _loaded(path, network_shapes(config), on_host=on_host)


def load_placement(path: Path, config: PlacementConfig, *, on_host: bool = False) -> PlacementNetwork:
    """Return a placement network with stored weights, as `load_network` does.

    Raises:
        ValueError: The file is missing or damaged, or a tensor is missing, unknown or of another shape, with its name.
    """
    return _loaded(path, placement_shapes(config), on_host=on_host)


def load_matching(path: Path, network: nnx.Module) -> tuple[int, int]:
    """Load the stored tensors whose names and shapes match those of a network.

    Returns:
        The number of loaded weights, and the number of weights of the network.

    Raises:
        ValueError: The file is missing or damaged.
    """
    state = nnx.state(network, nnx.Param)
    parameters, loaded = named(state), 0
    index = path.with_name(f"{path.name}.index.json")
    with StoredTensors(index if index.is_file() else path) as stored:
        for name, value in parameters.items():
            if stored.shapes.get(name) == value.shape:
                tensor = stored.read(name).astype(np.float32)
                value.set_value(jnp.asarray(tensor))
                loaded += tensor.size
    nnx.update(network, state)
    return loaded, sum(value.size for value in parameters.values())


def _loaded(path: Path, network: _Module, *, on_host: bool) -> _Module:
    state = nnx.state(network, nnx.Param)
    parameters = named(state)
    index = path.with_name(f"{path.name}.index.json")
    with StoredTensors(index if index.is_file() else path) as stored:
        for name in sorted(parameters.keys() ^ stored.shapes.keys()):
            raise ValueError(f"weights: {path} {'lacks' if name in parameters else 'has an unknown'} tensor {name}")
        for name, value in parameters.items():
            if stored.shapes[name] != value.shape:
                raise ValueError(f"weights: {path}: {name} has shape {stored.shapes[name]}, expected {value.shape}")
        for name in stored.shapes:
            tensor = stored.read(name).astype(np.float32)
            parameters[name].set_value(tensor if on_host else jnp.asarray(tensor))
    nnx.update(network, state)
    return network


def save_config(config: CascadeConfig, folder: Path) -> None:
    """Write `cascade.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load_config(folder: Path) -> CascadeConfig:
    """Return the configuration in `cascade.json`.

    Raises:
        ValueError: The file is missing or not a cascade's configuration.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"weights: there is no {CONFIG_FILE} in {folder}")
    try:
        return CascadeConfig.model_validate_json(path.read_text())
    except ValidationError as error:
        raise ValueError(f"weights: {path} is not a cascade's configuration: {first_fault(error)}") from error


def digest(folder: Path, largest: int) -> str:
    """Return the SHA-256, in hexadecimal, of all that an image of a size depends on: configuration and weights.

    Args:
        folder: Folder of the cascade.
        largest: The image's size; the stages above it are left out.
    """
    config = load_config(folder)
    stages = tuple(stage for stage in config.stages if stage.size <= largest)
    needed = config.model_copy(update={"stages": stages})
    combined = hashlib.sha256(needed.model_dump_json().encode())
    for path in sorted(file for name in _names(needed) for file in _files(folder / name)):
        with path.open("rb") as file:
            combined.update(hashlib.file_digest(file, "sha256").digest())
    return combined.hexdigest()


def named(state: nnx.State[Any, Any]) -> dict[str, nnx.Param[Any]]:
    """Return the parameters by their stored names."""
    return {".".join(map(str, path)): value for path, value in nnx.to_flat_state(state)}
