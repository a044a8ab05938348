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
    """An optimiser of `training/optimizer.py`."""

    ADAM = "adam"
    ADAFACTOR = "adafactor"


class X0Loss(StrEnum):
    """The loss of a network that predicts x_0 (see `training/loss.py`)."""

    WEIGHTED_SQUARES = "weighted-squares"
    """Squared differences, weighted as v's."""
    CHARBONNIER = "charbonnier"
    """Smooth absolute differences, all with the same weight."""


class TrainingConfig(BaseModel):
    """One stage's training run. Paths are taken from the folder in which the command runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str | None = Field(None, description="The cascade, a name of config/presets.py; or else `cascade`.")
    cascade: Path | None = Field(
        None, description="Folder of a cascade, an imported one for example, with the weights to begin from."
    )
    stage: Annotated[int, Field(ge=0)] | Literal["placement"] = Field(
        description='Which stage of it, from 0; or "placement", its placement network.'
    )
    data: Path = Field(description="Folder of training shards (*.tar) with the stage's size of images.")
    output: Path = Field(description="Folder for checkpoints, sample sheets and TensorBoard's files.")
    weights: Path = Field(description="Cascade folder that gets the stage's averaged weights when the run ends.")
    steps: int = Field(ge=1, description="Optimiser steps.")
    batch_size: int = Field(ge=1, description="Images a step.")
    accumulation: int = Field(
        1, ge=1, description="Parts of a batch, one computed after the other: less memory, the same gradient."
    )
    draws: int = Field(1, ge=1, description="Noise draws of each image a step: its neighbors are encoded once for all.")
    resolution: int | None = Field(None, description="Train on images shrunk to this side; None for the stage's own.")
    initial: Path | None = Field(None, description="Cascade folder whose weights of this stage to begin from.")
    initial_differs: bool = Field(
        False,
        description="The weights of `initial` are another network's: those of the same name and shape are taken, and "
        "the other parameters begin at random.",
    )
    text_encoder: Path | None = Field(
        None,
        description="Folder of the network that reads the texts; None where `cascade` or `initial` holds it, or where "
        "MiniLM is installed.",
    )
    crop: int | None = Field(None, description="Train on random crops of this side; None for whole images.")
    trained: tuple[str, ...] = Field(
        (), description="Parts that are trained, such as neighbor_attention, and no others; none for all."
    )
    optimizer: OptimizerKind = OptimizerKind.ADAM
    learning_rate: float = Field(1e-4, gt=0, description="The peak.")
    warmup_steps: int = Field(
        500, ge=0, description="Steps of linear warm-up; a cosine to a tenth of the peak follows."
    )
    gradient_clip: float = Field(1.0, gt=0, description="Largest global norm of the gradient.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Of the averaged weights, which are what is used.")
    drop_text: float = Field(0.1, ge=0, le=1, description="Share of draws without the text.")
    drop_neighbors: float = Field(0.1, ge=0, le=1, description="Share of draws without the neighbors.")
    drop_both: float = Field(0.05, ge=0, le=1, description="Further share of draws without either.")
    drop_each_neighbor: float = Field(
        0.1, ge=0, le=1, description="Share of single neighbors left out, so any k works."
    )
    distractors: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of neighbors replaced by another image's; one of each image is, a tenth as often.",
    )
    placement_error: float = Field(
        0.3, ge=0, le=1, description="Share of images whose placed neighbors are shown well off their true places."
    )
    neighbors: int = Field(2, ge=0, le=16, description="Neighbors of an image; samples with more are cut.")
    x0_loss: X0Loss = Field(
        X0Loss.WEIGHTED_SQUARES, description="The loss, where the network predicts x0: weighted-squares or charbonnier."
    )
    maximum_augmentation: float = Field(0.4, ge=0, le=1, description="aug_level is uniform from 0 to this.")
    time_exponent: float = Field(
        1.0, gt=0, description="Times are u to this power, u uniform; below 1 sees more of high noise."
    )
    seed: int = 0
    mesh: MeshConfig = Field(MeshConfig(), description="How several devices share out the rows and the parameters.")
    checkpoint_minutes: float = Field(5.0, gt=0, description="Minutes between checkpoints.")
    sheet_minutes: float = Field(
        30.0, ge=0, description="Minutes between sample sheets, the last of which is drawn at the end; 0 draws none."
    )

    @property
    def beginning(self) -> Path | None:
        """The cascade folder whose weights the run begins from; None for random ones."""
        return self.cascade or self.initial

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if (self.preset is None) is (self.cascade is None):
            raise ValueError("cascade: name either a preset or the folder of a cascade")
        if self.cascade is not None and self.initial is not None:
            raise ValueError("initial: with a cascade's folder, the run begins from the weights there")
        if self.initial_differs and self.initial is None:
            raise ValueError("initial_differs: names what to do with the weights of `initial`, which is missing")
        if self.cascade is not None and self.cascade.resolve() == self.weights.resolve():
            raise ValueError("weights: must be another folder than cascade, whose weights the run begins from")
        return self

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation: must divide batch_size, {self.batch_size}, got {self.accumulation}")
        return self

    @model_validator(mode="after")
    def _another_image_distracts(self) -> Self:
        if self.distractors and self.batch_size // self.accumulation < 2:
            raise ValueError("distractors: come from another image of the batch, or part of one, which has only one")
        return self

    @model_validator(mode="after")
    def _placement_is_whole(self) -> Self:
        if self.stage == PLACEMENT:
            if self.draws != 1 or self.crop is not None or self.resolution is not None:
                raise ValueError("stage: the placement network is trained on whole images with one draw each")
            if self.neighbors == 0:
                raise ValueError("neighbors: must be at least 1 for the placement network")
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps: must be less than steps, {self.steps}, got {self.warmup_steps}")
        return self


def load_config(path: Path) -> TrainingConfig:
    """Reads a TOML file.

    Raises:
        ValueError: a field is missing, unknown or out of range, and named; or the file is not TOML.
        OSError: the file cannot be read.
    """
    try:
        return TrainingConfig.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
