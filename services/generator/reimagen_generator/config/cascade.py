"""The configuration of a cascade: its stages, their networks, schedules and guidance.

A configuration is stored beside the weights it belongs to (`cascade.json`), so that a folder of weights is complete.
"""

import math
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reimagen_generator.config.mesh import MeshConfig
from reimagen_generator.config.networks import AnyNetworkConfig
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.config.text import DroppedText, TextEncoderConfig


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
    COSINE_BETAS = "cosine-betas"


class Prediction(StrEnum):
    """What the network's output stands for (see `diffusion/prediction.py`)."""

    EPSILON = "epsilon"
    V = "v"
    X0 = "x0"


class SamplerKind(StrEnum):
    """A sampler of `diffusion/samplers/`."""

    DDPM = "ddpm"
    DDIM = "ddim"
    DPM_SOLVER = "dpm-solver++"
    UNIPC = "unipc"

    @property
    def multistep(self) -> bool:
        """Whether a step builds on the predictions of the steps before it."""
        return self in (SamplerKind.DPM_SOLVER, SamplerKind.UNIPC)


class Guidance(_Frozen):
    """Guidance of one stage."""

    strategy: Strategy = Field(Strategy.INTERLEAVED, description="How a step's evaluations are combined.")
    text_weight: float = Field(1.0, ge=0, le=100, description="w_p; joint guidance uses it as its only weight.")
    neighbor_weight: float = Field(1.0, ge=0, le=100, description="w_n.")
    interleave_ratio: float = Field(0.5, ge=0, le=1, description="η: the share of steps that enhance the text.")
    interval: tuple[float, float] | None = Field(
        None, description="Log-SNRs between which a step is guided; None guides all (arXiv 2404.07724)."
    )

    @model_validator(mode="after")
    def _interval_is_one(self) -> Self:
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise ValueError(f"interval: the first log-SNR must be below the second, got {self.interval}")
        return self

    @property
    def interleaves(self) -> bool:
        """Whether steps differ in what they enhance."""
        return self.strategy is Strategy.INTERLEAVED and (self.text_weight, self.neighbor_weight) != (1.0, 1.0)


class Thresholding(_Frozen):
    """Dynamic thresholding of the predicted x0 (Imagen, section 2.3); static, plain clipping, with a maximum of 1."""

    percentile: float = Field(0.995, gt=0, le=1, description="The quantile of |x0| that is brought back to 1.")
    maximum: float | None = Field(None, ge=1, description="The largest divisor; 1 makes it plain clipping.")


class Upsampling(StrEnum):
    """How the smaller image is brought to a stage's size (see `diffusion/resize.py`)."""

    BICUBIC = "bicubic"
    BILINEAR_CORNERS = "bilinear-corners"
    """The corners' pixels stay in the corners, as DeepFloyd IF enlarges."""


class StageConfig(_Frozen):
    """One stage of the cascade."""

    size: int = Field(description="Side of the images that this stage draws, in pixels.")
    network: AnyNetworkConfig
    schedule: ScheduleKind = ScheduleKind.COSINE
    prediction: Prediction = Prediction.V
    sampler: SamplerKind = SamplerKind.DDIM
    steps: int = Field(ge=1, le=1000, description="Sampling steps.")
    timestep_respacing: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        description="Steps in each of as many equal parts of the thousand integer timesteps of cosine-betas, the "
        "cleanest part first; None spreads all evenly.",
    )
    schedule_size: int | None = Field(
        None, ge=1, description="Side that the schedule was made for, if not `size`: moves it as simple diffusion does."
    )
    guidance: Guidance = Guidance()
    thresholding: Thresholding = Thresholding()
    upsampling: Upsampling = Upsampling.BICUBIC
    augmentation: float = Field(0.0, ge=0, le=1, description="aug_level at which the smaller image is noised.")
    augment_before_upsampling: bool = Field(
        False,
        description="Noise is added to the smaller image's own pixels, as the errors of the stage before are; False "
        "adds it to the enlarged image, as Imagen does.",
    )
    low_res_consistency: bool = Field(
        False, description="Each predicted image is corrected, so that shrunk it is nearly the smaller one."
    )

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if self.size % self.network.divisor:
            raise ValueError(f"size: must be a multiple of {self.network.divisor}, the network's divisor")
        return self

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        if self.schedule is not ScheduleKind.COSINE_BETAS:
            if self.timestep_respacing is not None:
                raise ValueError(
                    f"timestep_respacing: only the schedule cosine-betas has integer timesteps, not {self.schedule}"
                )
            return self
        sections = self.timestep_respacing or (self.steps,)
        if sum(sections) != self.steps:
            raise ValueError(f"timestep_respacing: must add up to steps, {self.steps}, got {sum(sections)}")
        if max(sections) > 1000 // len(sections):
            raise ValueError(
                f"timestep_respacing: each of {len(sections)} parts has {1000 // len(sections)} timesteps at most"
            )
        return self

    @model_validator(mode="after")
    def _guidance_suits_sampler(self) -> Self:
        self.check_guidance(self.guidance)
        return self

    def with_steps(self, factor: float) -> Self:
        """The same stage, sampled in so many times its own steps; at least one."""
        if factor == 1:
            return self
        parts = self.timestep_respacing or (self.steps,)
        most = 1000 // len(parts)
        scaled = tuple(min(most, max(1, round(steps * factor))) if steps else 0 for steps in parts)
        return self.model_copy(
            update={"steps": sum(scaled), "timestep_respacing": scaled if self.timestep_respacing else None}
        )

    def check_guidance(self, guidance: Guidance) -> None:
        """Refuses guidance that this stage's sampler cannot follow.

        Raises:
            ValueError: the guidance interleaves, which to a multi-step solver is noise.
        """
        if self.network.retrieval and guidance.interleaves and self.sampler.multistep:
            raise ValueError(
                f"guidance.strategy: interleaved changes from step to step, and {self.sampler} builds on earlier "
                "steps; use weighted or joint, or the sampler ddim or ddpm"
            )

    @property
    def log_snr_shift(self) -> float:
        """What moves the schedule's log-SNR from `schedule_size` to `size` (simple diffusion, arXiv 2301.11093)."""
        return 2.0 * math.log(self.schedule_size / self.size) if self.schedule_size else 0.0


class CascadeConfig(_Frozen):
    """A whole cascade, the smallest stage first."""

    name: str
    text_encoder: TextEncoderConfig = Field("hashed-ngrams", description="What reads the texts, the neighbors' too.")
    dropped_text: DroppedText = Field(DroppedText.MASKED, description="What networks see where a text is dropped.")
    stages: tuple[StageConfig, ...]
    default_k: int = Field(2, ge=0, le=16, description="Neighbors retrieved when a request names no k.")
    maximum_k: int = Field(16, ge=0, le=16, description="The most neighbors that a request may have.")
    relevant_only: bool = Field(
        False,
        description="Neighbors found whose texts name nothing of the prompt that a better one's has not named are left "
        "out.",
    )
    placement: PlacementConfig | None = Field(
        None, description="The network that places neighbors for the stages that take them placed; None for no such."
    )
    side_by_side: bool = Field(
        False,
        description="Neighbors with different texts are set side by side before the networks see them, which draw what "
        "a neighbor shows where it shows it.",
    )
    mesh: MeshConfig = Field(MeshConfig(), description="How several devices share out the drawing.")

    @model_validator(mode="after")
    def _stages_follow(self) -> Self:
        sizes = [stage.size for stage in self.stages]
        if not sizes or sizes != sorted(set(sizes)):
            raise ValueError("stages: sizes must grow from stage to stage")
        if [stage.network.low_resolution for stage in self.stages] != [False] + [True] * (len(sizes) - 1):
            raise ValueError("stages: each stage but the first, and no other, takes a smaller image")
        if self.placement is None and any(stage.network.placed for stage in self.stages):
            raise ValueError("placement: needed, since a stage takes placed neighbors")
        return self
