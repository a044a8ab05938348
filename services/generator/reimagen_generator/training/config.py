"""The configuration of a training run, read from a TOML file."""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reimagen_common.errors import first_fault
from reimagen_generator.config.mesh import MeshConfig

PLACEMENT: Final = "placement"


class OptimizerKind(StrEnum):
    """An optimizer of `training/optimizer.py`."""

    ADAM = "adam"
    ADAFACTOR = "adafactor"


class X0Loss(StrEnum):
    """The loss of a network that predicts x_0 (see `training/loss.py`)."""

    WEIGHTED_SQUARES = "weighted-squares"
    """Squared differences, weighted as those of v."""
    CHARBONNIER = "charbonnier"
    """Smooth absolute differences, all with equal weight."""


class TrainingConfig(BaseModel):
    """One stage's training run. Paths are relative to the working directory of the command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str | None = Field(
        None, description="Name of the cascade in config/presets.py. Exactly one of preset and cascade must be set."
    )
    cascade: Path | None = Field(
        None, description="Folder of a cascade, such as an imported one, with the initial weights."
    )
    stage: Annotated[int, Field(ge=0)] | Literal["placement"] = Field(
        description='Index of the stage to train, from 0; or "placement" for the placement network.'
    )
    data: Path = Field(description="Folder of training shards (*.tar) whose images have the stage's size.")
    output: Path = Field(description="Folder for checkpoints, sample sheets and TensorBoard's files.")
    weights: Path = Field(description="Cascade folder for the stage's averaged weights, written at the end of the run.")
    steps: int = Field(ge=1, description="Number of optimizer steps.")
    batch_size: int = Field(ge=1, description="Images per step.")
    accumulation: int = Field(
        1, ge=1, description="Parts of a batch that are computed in turn: less memory, the same gradient."
    )
    draws: int = Field(
        1, ge=1, description="Noise draws of each image per step; its neighbors are encoded once for all draws."
    )
    resolution: int | None = Field(
        None, description="Side to which training images are downsampled, in pixels; None for the stage's size."
    )
    initial: Path | None = Field(None, description="Cascade folder with the initial weights of the stage.")
    initial_differs: bool = Field(
        False,
        description="The weights of `initial` are those of a different network: parameters of the same name and shape "
        "are loaded, and the others start at random.",
    )
    text_encoder: Path | None = Field(
        None,
        description="Folder of the text encoder's network; None if it is in the folder of `cascade` or `initial`, or "
        "if the encoder is MiniLM and installed.",
    )
    crop: int | None = Field(
        None, description="Side of the random crops to train on, in pixels; None for whole images."
    )
    trained: tuple[str, ...] = Field(
        (), description="The parts to train, such as neighbor_attention; an empty list trains all parts."
    )
    optimizer: OptimizerKind = Field(OptimizerKind.ADAM, description="The optimizer: adam or adafactor.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak of the learning rate.")
    warmup_steps: int = Field(
        500, ge=0, description="Steps of linear warm-up; a cosine decay to a tenth of the peak follows."
    )
    gradient_clip: float = Field(1.0, gt=0, description="Maximum global norm of the gradient.")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="Decay of the moving average of the weights; the average is the result."
    )
    drop_text: float = Field(0.1, ge=0, le=1, description="Share of draws without the text.")
    drop_neighbors: float = Field(0.1, ge=0, le=1, description="Share of draws without the neighbors.")
    drop_both: float = Field(0.05, ge=0, le=1, description="Additional share of draws with neither text nor neighbors.")
    drop_each_neighbor: float = Field(
        0.1, ge=0, le=1, description="Share of single neighbors that are left out, so that any k works."
    )
    distractors: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of neighbors replaced by those of another image; one neighbor of each image is replaced a "
        "tenth as often.",
    )
    placement_error: float = Field(
        0.3, ge=0, le=1, description="Share of images whose placed neighbors are shown far from their true placements."
    )
    neighbors: int = Field(
        2, ge=0, le=16, description="Maximum number of neighbors of an image; further ones are ignored."
    )
    x0_loss: X0Loss = Field(
        X0Loss.WEIGHTED_SQUARES, description="Loss of a network that predicts x_0: weighted-squares or charbonnier."
    )
    maximum_augmentation: float = Field(
        0.4, ge=0, le=1, description="Maximum augmentation level (aug_level); it is uniform from 0."
    )
    maximum_blur: float = Field(
        0.0,
        ge=0,
        le=2,
        description="Maximum standard deviation of a Gaussian blur of the low-resolution image, in its pixels; it is "
        "uniform from 0.",
    )
    time_exponent: float = Field(
        1.0, gt=0, description="Times are u to this power, with u uniform in [0, 1]; below 1 favors high noise."
    )
    seed: int = Field(0, description="Seed of the initial weights, the order of the data and the noise.")
    mesh: MeshConfig = Field(
        MeshConfig(), description="How the rows and the parameters are distributed over several devices."
    )
    checkpoint_minutes: float = Field(5.0, gt=0, description="Minutes between checkpoints.")
    sheet_minutes: float = Field(
        30.0, ge=0, description="Minutes between sample sheets, with a last one at the end; 0 draws no sheets."
    )

    @property
    def beginning(self) -> Path | None:
        """The cascade folder with the initial weights; None for random weights."""
        return self.cascade or self.initial

    @model_validator(mode="after")
    def _check_initial_weights(self) -> Self:
        if (self.preset is None) is (self.cascade is None):
            raise ValueError("cascade: exactly one of preset and cascade must be set")
        if self.cascade is not None and self.initial is not None:
            raise ValueError("initial: must not be set with cascade, whose folder has the initial weights")
        if self.initial_differs and self.initial is None:
            raise ValueError("initial_differs: must be false without initial")
        if self.cascade is not None and self.cascade.resolve() == self.weights.resolve():
            raise ValueError("weights: must be another folder than cascade, which has the initial weights")
        return self

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation: must divide batch_size, {self.batch_size}, got {self.accumulation}")
        return self

    @model_validator(mode="after")
    def _check_distractors(self) -> Self:
        if self.distractors and self.batch_size // self.accumulation < 2:
            raise ValueError(
                "distractors: must be 0 if batch_size / accumulation is 1, since they come from another image of the "
                "same part of the batch"
            )
        return self

    @model_validator(mode="after")
    def _check_placement(self) -> Self:
        if self.stage == PLACEMENT:
            if self.draws != 1 or self.crop is not None or self.resolution is not None:
                raise ValueError(
                    "stage: the placement network is trained on whole images; draws must be 1, and crop and resolution "
                    "must not be set"
                )
            if self.neighbors == 0:
                raise ValueError("neighbors: must be at least 1 for the placement network")
        return self

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps: must be less than steps, {self.steps}, got {self.warmup_steps}")
        return self


def load_config(path: Path) -> TrainingConfig:
    """Return the configuration in a TOML file.

    Raises:
        ValueError: A field is missing, unknown or out of range, and named; or the file is not TOML.
        OSError: The file cannot be read.
    """
    try:
        return TrainingConfig.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
