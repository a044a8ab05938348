"""A cascade on disk: `cascade.json` and one safetensors file a stage, named by its size.

Weights are stored in float16, half the space, and used in float32.
"""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ValidationError

from reimagen_common.errors import first_fault
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.networks import AnyNetworkConfig
from reimagen_generator.networks.network import Network
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.weights.shards import StoredTensors, TensorSpec, write_tensors

CONFIG_FILE = "cascade.json"


def stage_file(size: int) -> str:
    """The name of a stage's weights."""
    return f"stage-{size}.safetensors"


def save_network(network: Network, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a network's weights, complete or not at all, in place of those that are there.

    Raises:
        ValueError: a number is not finite, or too large for float16.
    """
    parameters = named(nnx.state(network, nnx.Param))
    tensors = {name: TensorSpec(value.shape, partial(np.asarray, value[...])) for name, value in parameters.items()}
    written = write_tensors(path, tensors, np.dtype(np.float16), metadata or {})
    for stale in set(_files(path)) - set(written):
        stale.unlink()


def copy_missing_stages(config: CascadeConfig, source: Path, target: Path) -> None:
    """Copies the weights of the stages that a cascade's folder lacks from another one's, so that it is whole."""
    for stage in config.stages:
        if not _files(target / stage_file(stage.size)):
            for file in sorted(_files(source / stage_file(stage.size))):  # an index comes last
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
    network = network_shapes(config)
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
    """SHA-256 of a cascade's configuration and weights, in hexadecimal digits: another one draws other pictures."""
    whole = hashlib.sha256()
    for path in sorted([folder / CONFIG_FILE, *folder.glob("stage-*")]):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def named(state: nnx.State[Any, Any]) -> dict[str, nnx.Param[Any]]:
    """Parameters by the names under which they are stored."""
    return {".".join(map(str, path)): value for path, value in nnx.to_flat_state(state)}
