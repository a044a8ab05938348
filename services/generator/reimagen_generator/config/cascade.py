"""The configuration of a cascade: its stages, their networks, schedules and guidance.

A configuration is stored beside the weights it belongs to (`cascade.json`), so that a folder of weights is complete.
"""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reimagen_generator.config.networks import AnyNetworkConfig


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Strategy(StrEnum):
    """How a step combines its evaluations (see `diffusion/guidance.py`)."""

    JOINT = "joint"
    WEIGHTED = "weighted"
    INTERLEAVED = "interleaved"


class ScheduleKind(StrEnum):
    """A noise schedule of `diffusion/schedule.py`."""

    COSINE = "cosine"
    LINEAR = "linear"


class Prediction(StrEnum):
    """What the network's output stands for (see `diffusion/prediction.py`)."""

    EPSILON = "epsilon"
    V = "v"
    X0 = "x0"


class SamplerKind(StrEnum):
    """A sampler of `diffusion/sampler.py`."""

    DDPM = "ddpm"
    DDIM = "ddim"


class Guidance(_Frozen):
    """Guidance of one stage."""

    strategy: Strategy = Field(Strategy.INTERLEAVED, description="How a step's evaluations are combined.")
    text_weight: float = Field(1.0, ge=0, le=100, description="w_p; joint guidance uses it as its only weight.")
    neighbor_weight: float = Field(1.0, ge=0, le=100, description="w_n.")
    interleave_ratio: float = Field(0.5, ge=0, le=1, description="η: the share of steps that enhance the text.")


class Thresholding(_Frozen):
    """Dynamic thresholding of the predicted x0 (Imagen, section 2.3)."""

    percentile: float = Field(0.995, gt=0, le=1, description="The quantile of |x0| that is brought back to 1.")
    maximum: float | None = Field(None, ge=1, description="The largest divisor; 1 makes it plain clipping.")


class StageConfig(_Frozen):
    """One stage of the cascade."""

    size: int = Field(description="Side of the pictures that this stage draws, in pixels.")
    network: AnyNetworkConfig
    schedule: ScheduleKind = ScheduleKind.COSINE
    prediction: Prediction = Prediction.V
    sampler: SamplerKind = SamplerKind.DDIM
    steps: int = Field(ge=1, description="Sampling steps.")
    guidance: Guidance = Guidance()
    thresholding: Thresholding = Thresholding()
    augmentation: float = Field(0.0, ge=0, le=1, description="aug_level at which the smaller picture is noised.")

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if self.size % self.network.divisor:
            raise ValueError(f"size: must be a multiple of {self.network.divisor}, the network's divisor")
        return self


class CascadeConfig(_Frozen):
    """A whole cascade, the smallest stage first."""

    name: str
    text_encoder: str = Field("hashed-ngrams", description="A name known to `text/encoder.py`.")
    stages: tuple[StageConfig, ...]
    default_k: int = Field(2, ge=0, le=16, description="Neighbors retrieved when a request names no k.")
    maximum_k: int = Field(16, ge=0, le=16, description="The most neighbors that a request may have.")

    @model_validator(mode="after")
    def _stages_follow(self) -> Self:
        sizes = [stage.size for stage in self.stages]
        if not sizes or sizes != sorted(set(sizes)):
            raise ValueError("stages: sizes must grow from stage to stage")
        if [stage.network.low_resolution for stage in self.stages] != [False] + [True] * (len(sizes) - 1):
            raise ValueError("stages: each stage but the first, and no other, takes a smaller picture")
        return self
