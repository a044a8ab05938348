"""Configuration of a cascade: its stages, their networks, schedules and guidance.

A configuration is stored beside its weights (`cascade.json`), so that a folder of weights is complete.
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
    """How a step combines its network evaluations (see `diffusion/guidance.py`)."""

    JOINT = "joint"
    WEIGHTED = "weighted"
    INTERLEAVED = "interleaved"


class ScheduleKind(StrEnum):
    """A noise schedule of `diffusion/schedule.py`."""

    COSINE = "cosine"
    LINEAR = "linear"
    COSINE_BETAS = "cosine-betas"


class Prediction(StrEnum):
    """The quantity that the network predicts (see `diffusion/prediction.py`)."""

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
        """Whether a step uses the predictions of earlier steps."""
        return self in (SamplerKind.DPM_SOLVER, SamplerKind.UNIPC)


class Guidance(_Frozen):
    """Guidance of one stage."""

    strategy: Strategy = Field(
        Strategy.INTERLEAVED, description="How a step combines its network evaluations: joint, weighted or interleaved."
    )
    text_weight: float = Field(
        1.0, ge=0, le=100, description="Guidance weight of the text, w_p. Joint guidance uses only this weight."
    )
    neighbor_weight: float = Field(1.0, ge=0, le=100, description="Guidance weight of the neighbors, w_n.")
    interleave_ratio: float = Field(
        0.5, ge=0, le=1, description="Share η of the steps that enhance the text in interleaved guidance."
    )
    interval: tuple[float, float] | None = Field(
        None, description="Log-SNRs between which steps are guided; None guides all steps (arXiv 2404.07724)."
    )

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise ValueError(f"interval: the first log-SNR must be below the second, got {self.interval}")
        return self

    @property
    def interleaves(self) -> bool:
        """Whether some steps enhance the text and others the neighbors."""
        return self.strategy is Strategy.INTERLEAVED and (self.text_weight, self.neighbor_weight) != (1.0, 1.0)


class Thresholding(_Frozen):
    """Dynamic thresholding of the predicted x_0 (Imagen, section 2.3). A maximum of 1 makes it plain clipping."""

    percentile: float = Field(0.995, gt=0, le=1, description="The quantile of |x_0| that is scaled to 1.")
    maximum: float | None = Field(
        None, ge=1, description="The largest divisor; 1 makes it plain clipping, None sets no limit."
    )


class Upsampling(StrEnum):
    """How the low-resolution image is upsampled to a stage's size (see `diffusion/resize.py`)."""

    BICUBIC = "bicubic"
    BILINEAR_CORNERS = "bilinear-corners"
    """Bilinear with aligned corners, as in DeepFloyd IF: the corner pixels stay in the corners."""


class StageConfig(_Frozen):
    """One stage of the cascade."""

    size: int = Field(description="Side of the stage's images, in pixels.")
    network: AnyNetworkConfig
    schedule: ScheduleKind = ScheduleKind.COSINE
    prediction: Prediction = Prediction.V
    sampler: SamplerKind = SamplerKind.DDIM
    steps: int = Field(ge=1, le=1000, description="Number of sampling steps.")
    timestep_respacing: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        description="Number of steps in each of several equal parts of the thousand integer timesteps of the schedule "
        "cosine-betas, the cleanest part first; None spreads the steps evenly.",
    )
    schedule_size: int | None = Field(
        None,
        ge=1,
        description="Side for which the schedule was designed, in pixels, if not `size`: the log-SNRs are shifted as "
        "in simple diffusion.",
    )
    guidance: Guidance = Guidance()
    thresholding: Thresholding = Thresholding()
    upsampling: Upsampling = Upsampling.BICUBIC
    augmentation: float = Field(
        0.0, ge=0, le=1, description="Augmentation level (aug_level): the noise added to the low-resolution image."
    )
    augment_before_upsampling: bool = Field(
        False,
        description="True adds the noise to the low-resolution image before it is upsampled, which resembles the "
        "errors of the stage before; False adds it after upsampling, as Imagen does.",
    )
    low_res_consistency: bool = Field(
        False,
        description="Each predicted image is corrected, so that it nearly equals the low-resolution image when it is "
        "downsampled.",
    )

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.size % self.network.divisor:
            raise ValueError(f"size: must be a multiple of {self.network.divisor}, the network's divisor")
        return self

    @model_validator(mode="after")
    def _check_timestep_respacing(self) -> Self:
        if self.schedule is not ScheduleKind.COSINE_BETAS:
            if self.timestep_respacing is not None:
                raise ValueError(
                    f"timestep_respacing: must be null, since the schedule {self.schedule} has no integer timesteps; "
                    "only cosine-betas has"
                )
            return self
        respacing = self.timestep_respacing or (self.steps,)
        if sum(respacing) != self.steps:
            raise ValueError(f"timestep_respacing: must add up to steps, {self.steps}, got {sum(respacing)}")
        if max(respacing) > 1000 // len(respacing):
            raise ValueError(
                f"timestep_respacing: each of {len(respacing)} parts can have {1000 // len(respacing)} steps at most, "
                f"got {max(respacing)}"
            )
        return self

    @model_validator(mode="after")
    def _check_guidance(self) -> Self:
        if conflict := self.guidance_conflict(self.guidance):
            raise ValueError(f"guidance.strategy: {conflict}")
        return self

    def with_steps(self, factor: float) -> Self:
        """Return the same stage with its number of steps multiplied by a factor; at least one step."""
        if factor == 1:
            return self
        parts = self.timestep_respacing or (self.steps,)
        most = 1000 // len(parts)
        scaled = tuple(min(most, max(1, round(steps * factor))) if steps else 0 for steps in parts)
        return self.model_copy(
            update={"steps": sum(scaled), "timestep_respacing": scaled if self.timestep_respacing else None}
        )

    @property
    def most_steps(self) -> int:
        """The largest number of steps: a schedule of integer timesteps has no more, and a time-continuous one 1,000."""
        parts = self.timestep_respacing or (self.steps,)
        return sum(bool(steps) for steps in parts) * (1000 // len(parts))

    def with_step_count(self, count: int) -> Self:
        """Return the same stage with another number of steps, 1 to `most_steps`.

        The parts of `timestep_respacing` keep their shares of the steps, as nearly as whole numbers allow.
        """
        if self.timestep_respacing is None:
            return self.model_copy(update={"steps": count})
        shares = [steps * count / self.steps for steps in self.timestep_respacing]
        most = 1000 // len(shares)
        parts = [0] * len(shares)
        for _ in range(count):
            open_parts = [part for part, share in enumerate(shares) if share and parts[part] < most]
            parts[max(open_parts, key=lambda part: shares[part] - parts[part])] += 1
        return self.model_copy(update={"steps": count, "timestep_respacing": tuple(parts)})

    def guidance_conflict(self, guidance: Guidance) -> str:
        """Return why this stage's sampler cannot follow a guidance; '' if it can.

        To a multi-step solver, a change from step to step is noise.
        """
        if self.network.retrieval and guidance.interleaves and self.sampler.multistep:
            return (
                f"interleaved changes from step to step, but {self.sampler} uses earlier steps; use weighted or joint, "
                "or the sampler ddim or ddpm"
            )
        return ""

    @property
    def log_snr_shift(self) -> float:
        """Shift of the schedule's log-SNR from `schedule_size` to `size` (simple diffusion, arXiv 2301.11093)."""
        return 2.0 * math.log(self.schedule_size / self.size) if self.schedule_size else 0.0


class CascadeConfig(_Frozen):
    """A cascade: its stages in increasing size, the text encoder and the placement network."""

    name: str
    text_encoder: TextEncoderConfig = Field(
        "hashed-ngrams", description="Text encoder of the prompts and of the neighbors' captions."
    )
    dropped_text: DroppedText = Field(
        DroppedText.MASKED, description="What the networks see in place of a dropped text."
    )
    stages: tuple[StageConfig, ...]
    default_k: int = Field(
        2, ge=0, le=16, description="Number of neighbors to retrieve for a request that does not set k."
    )
    maximum_k: int = Field(16, ge=0, le=16, description="Maximum number of neighbors of a request.")
    relevant_only: bool = Field(
        False,
        description="A retrieved neighbor is left out if its caption names nothing of the prompt beyond what the "
        "captions of better neighbors name.",
    )
    placement: PlacementConfig | None = Field(
        None,
        description="Network that places the neighbors for stages with placed neighbors; None if no stage has them.",
    )
    mesh: MeshConfig = Field(MeshConfig(), description="How the work is distributed over several devices.")

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        sizes = [stage.size for stage in self.stages]
        if not sizes or sizes != sorted(set(sizes)):
            raise ValueError(f"stages: needs at least one stage, with sizes that grow from stage to stage, got {sizes}")
        if [stage.network.low_resolution for stage in self.stages] != [False] + [True] * (len(sizes) - 1):
            raise ValueError("stages: network.low_resolution must be false for the first stage and true for all others")
        if self.placement is None and any(stage.network.placed for stage in self.stages):
            raise ValueError("placement: must be set, since the network of a stage has placed: true")
        return self
