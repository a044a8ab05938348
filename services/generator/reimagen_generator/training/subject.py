"""What a run trains, as its configuration says: of which cascade, which parts, on pictures of which side."""

import math
from collections.abc import Callable
from typing import Any

from reimagen_generator.config.cascade import CascadeConfig, Prediction, StageConfig
from reimagen_generator.config.presets import PRESETS
from reimagen_generator.training.config import TrainingConfig, X0Loss
from reimagen_generator.weights import checkpoint


def configured_cascade(config: TrainingConfig) -> CascadeConfig:
    """The configuration of a preset, or of a cascade's folder.

    Raises:
        ValueError: the preset is unknown, or the folder holds no configuration.
    """
    if config.cascade is not None:
        return checkpoint.load_config(config.cascade)
    if config.preset not in PRESETS:
        raise ValueError(f"preset: {config.preset!r} is unknown; known are {', '.join(sorted(PRESETS))}")
    return PRESETS[config.preset]


def check_sides(config: TrainingConfig, stage: StageConfig, grid: int) -> None:
    """Refuses a crop or resolution that a stage cannot take.

    Args:
        config: names them.
        stage: which is trained.
        grid: the side must be a multiple of this, so that the smaller picture can be computed.

    Raises:
        ValueError: it cannot.
    """
    multiple = math.lcm(stage.network.divisor, grid)
    for name, side in (("crop", config.crop), ("resolution", config.resolution)):
        if side is not None and (not 0 < side <= stage.size or side % multiple):
            raise ValueError(f"{name}: must be a multiple of {multiple}, at most {stage.size}, got {side}")


def check_loss(config: TrainingConfig, stage: StageConfig) -> None:
    """Refuse a loss of x_0 for a stage that predicts something else.

    Raises:
        ValueError: it predicts something else.
    """
    if config.x0_loss is not X0Loss.WEIGHTED_SQUARES and stage.prediction is not Prediction.X0:
        raise ValueError(
            f"x0_loss: must be {X0Loss.WEIGHTED_SQUARES}, since the stage predicts {stage.prediction} and not x0, "
            f"got {config.x0_loss}"
        )


def is_trained(parts: tuple[str, ...]) -> Callable[[tuple[Any, ...], Any], bool]:
    """Whether a parameter is in one of the parts, of which none stand for all."""

    def within(path: tuple[Any, ...], _: Any) -> bool:
        name = ".".join(map(str, path)) + "."
        return not parts or any(name.startswith(f"{part}.") for part in parts)

    return within
