"""The subject of a training run, from its configuration: the cascade, the stage and the trained parts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx
from tqdm import tqdm

from reimagen_generator.config.cascade import CascadeConfig, Prediction, StageConfig
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.config.presets import PRESETS
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.networks.registry import build_network
from reimagen_generator.training.config import PLACEMENT, TrainingConfig, X0Loss
from reimagen_generator.weights import checkpoint


def configured_cascade(config: TrainingConfig) -> CascadeConfig:
    """Return the configuration of a preset or of a cascade's folder.

    Raises:
        ValueError: The preset is unknown, or the folder contains no configuration.
    """
    if config.cascade is not None:
        return checkpoint.load_config(config.cascade)
    if config.preset not in PRESETS:
        raise ValueError(f"preset: must be one of {', '.join(sorted(PRESETS))}, got {config.preset!r}")
    return PRESETS[config.preset]


def new_network(config: TrainingConfig, cascade: CascadeConfig) -> nnx.Module:
    """Return the network to train, with random weights.

    Raises:
        ValueError: The cascade has no such stage, or no placement network.
    """
    rngs = nnx.Rngs(config.seed)
    if config.stage == PLACEMENT:
        return PlacementNetwork(_placement(cascade), rngs)
    return build_network(trained_stage(config, cascade).network, rngs)


def stored_network(config: TrainingConfig, cascade: CascadeConfig, folder: Path) -> nnx.Module:
    """Return the network to train, with the weights in a cascade's folder.

    Raises:
        ValueError: The weights are missing or do not fit.
    """
    path = folder / weights_file(config, cascade)
    if config.initial_differs:
        network = new_network(config, cascade)
        loaded, total = checkpoint.load_matching(path, network)
        tqdm.write(f"{loaded:,} of {total:,} parameters are loaded from {path}; the others start at random")
        return network
    if config.stage == PLACEMENT:
        return checkpoint.load_placement(path, _placement(cascade))
    return checkpoint.load_network(path, trained_stage(config, cascade).network)


def weights_file(config: TrainingConfig, cascade: CascadeConfig) -> str:
    """Return the name of the file of the trained weights."""
    if config.stage == PLACEMENT:
        return checkpoint.PLACEMENT_FILE
    return checkpoint.stage_file(trained_stage(config, cascade).size)


def trained_stage(config: TrainingConfig, cascade: CascadeConfig) -> StageConfig:
    """Return the stage to train; for the placement network, the first stage, whose noised images it sees.

    Raises:
        ValueError: The cascade has no such stage.
    """
    index = stage_index(config)
    if index >= len(cascade.stages):
        raise ValueError(f"stage: must be 0 to {len(cascade.stages) - 1}, the stages of {cascade.name}, got {index}")
    return cascade.stages[index]


def stage_index(config: TrainingConfig) -> int:
    """Return the index of the stage of `trained_stage`."""
    return 0 if isinstance(config.stage, str) else config.stage


def _placement(cascade: CascadeConfig) -> PlacementConfig:
    if cascade.placement is None:
        raise ValueError(f"stage: must be an index, since the cascade {cascade.name} has no placement network")
    return cascade.placement


def check_sides(config: TrainingConfig, stage: StageConfig, grid: int) -> None:
    """Raise an error if a crop or resolution does not suit the stage.

    Args:
        config: The configuration with the crop and the resolution.
        stage: The stage to train.
        grid: Sides must be multiples of this, so that the low-resolution image can be computed.

    Raises:
        ValueError: A side is not valid.
    """
    multiple = math.lcm(stage.network.divisor, grid)
    for name, side in (("crop", config.crop), ("resolution", config.resolution)):
        if side is not None and (not 0 < side <= stage.size or side % multiple):
            raise ValueError(f"{name}: must be a multiple of {multiple}, at most {stage.size}, got {side}")


def check_loss(config: TrainingConfig, stage: StageConfig) -> None:
    """Raise an error if a loss of x_0 is configured for a stage that predicts something else.

    Raises:
        ValueError: The stage does not predict x_0.
    """
    if config.x0_loss is not X0Loss.WEIGHTED_SQUARES and stage.prediction is not Prediction.X0:
        raise ValueError(
            f"x0_loss: must be {X0Loss.WEIGHTED_SQUARES}, since the stage predicts {stage.prediction} and not x0, "
            f"got {config.x0_loss}"
        )


def is_trained(parts: tuple[str, ...]) -> Callable[[tuple[Any, ...], Any], bool]:
    """Return the predicate for parameters that are in one of the parts, or in any part if there are none."""

    def within(path: tuple[Any, ...], _: Any) -> bool:
        name = ".".join(map(str, path)) + "."
        return not parts or any(name.startswith(f"{part}.") for part in parts)

    return within
