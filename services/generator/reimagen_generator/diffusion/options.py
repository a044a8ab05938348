"""What a request changes of a cascade's stages, checked against the cascade."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reimagen_common.errors import InvalidArgument
from reimagen_generator.config.cascade import CascadeConfig, Guidance, SamplerKind, StageConfig, Strategy

_OF_NEIGHBORS: Final = ("strategy", "neighbor_weight", "interleave_ratio")
_NOT_JOINT: Final = ("neighbor_weight", "interleave_ratio")


@dataclass(frozen=True)
class GuidanceOptions:
    """What a request changes of guidance; None keeps a stage's own value."""

    strategy: Strategy | None = None
    text_weight: float | None = None
    neighbor_weight: float | None = None
    interleave_ratio: float | None = None

    @property
    def changes(self) -> Mapping[str, Any]:
        """The fields that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class StepOptions:
    """What a request changes of a stage's steps; None keeps the stage's own value."""

    steps: int | None = None
    """Number of steps."""
    sampler: SamplerKind | None = None

    def applied_to(self, stage: StageConfig) -> StageConfig:
        """Return the stage with the changes."""
        if self.steps is not None:
            stage = stage.with_step_count(self.steps)
        return stage if self.sampler is None else stage.model_copy(update={"sampler": self.sampler})


@dataclass(frozen=True)
class StageOptions:
    """What a request changes of one stage."""

    size: int
    """Side of the stage's images in pixels."""
    steps: StepOptions = field(default_factory=StepOptions)
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)


@dataclass(frozen=True)
class DrawingOptions:
    """What a request changes of the stages."""

    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    """Changes of the retrieval-conditioned stages."""
    steps: StepOptions = field(default_factory=StepOptions)
    """Changes of all stages."""
    stages: Sequence[StageOptions] = ()
    """Changes of single stages, which override the others."""


@dataclass(frozen=True)
class StageSettings:
    """The guidance of a stage, and the changes of its steps."""

    guidance: Guidance
    steps: StepOptions


def resolve(config: CascadeConfig, options: DrawingOptions, size: int) -> tuple[StageSettings, ...]:
    """Return the settings of each stage up to `size`.

    Args:
        config: The cascade.
        options: What a request changes.
        size: The size of one of the stages.

    Raises:
        InvalidArgument: A stage does not exist, or cannot follow a change. The error names the field of the request,
            such as `guidance.strategy` or `stages.0.steps`.
    """
    sizes = [stage.size for stage in config.stages]
    changed: dict[int, tuple[str, StageOptions]] = {}
    for index, one in enumerate(options.stages):
        if one.size not in sizes:
            supported = ", ".join(map(str, sizes))
            raise InvalidArgument(
                f"must be one of {supported} with cascade {config.name!r}, got {one.size}", field=f"stages.{index}.size"
            )
        changed[one.size] = f"stages.{index}", one
    stages = [stage for stage in config.stages if stage.size <= size]
    settings = tuple(_resolve(stage, options, *changed.get(stage.size, ("", None))) for stage in stages)
    used = {one.guidance.strategy for stage, one in zip(stages, settings, strict=True) if stage.network.retrieval}
    if used == {Strategy.JOINT}:
        _refuse_in_joint(options.guidance, "guidance")
    return settings


def _resolve(stage: StageConfig, options: DrawingOptions, field: str, own: StageOptions | None) -> StageSettings:
    """Return the settings of a stage.

    Args:
        stage: The stage.
        options: What the request changes.
        field: The field of the stage's own changes.
        own: The stage's own changes, if there are any.
    """
    guidance = stage.guidance
    if stage.network.guided:
        guidance = guidance.model_copy(update=options.guidance.changes)
    steps, sampler, fields = options.steps.steps, options.steps.sampler, {"steps": "steps", "sampler": "sampler"}
    if own is not None:
        guidance = _with_own_guidance(stage, guidance, own.guidance, f"{field}.guidance")
        if own.steps.steps is not None:
            steps, fields["steps"] = own.steps.steps, f"{field}.steps"
        if own.steps.sampler is not None:
            sampler, fields["sampler"] = own.steps.sampler, f"{field}.sampler"
    if steps is not None and steps > stage.most_steps:
        raise InvalidArgument(
            f"must be at most {stage.most_steps:,} for the stage of {stage.size} pixels, whose schedule has no more "
            f"timesteps; got {steps:,}",
            field=fields["steps"],
        )
    changes = StepOptions(steps, sampler)
    if conflict := changes.applied_to(stage).guidance_conflict(guidance):
        by_strategy = f"{field}.guidance.strategy" if own is not None and own.guidance.changes else "guidance.strategy"
        raise InvalidArgument(conflict, field=by_strategy if sampler is None else fields["sampler"])
    return StageSettings(guidance, changes)


def _with_own_guidance(stage: StageConfig, guidance: Guidance, own: GuidanceOptions, field: str) -> Guidance:
    if not stage.network.retrieval:
        for name in _OF_NEIGHBORS:
            if name in own.changes:
                raise InvalidArgument(
                    f"must be unset: the stage of {stage.size} pixels does not see neighbors, so only text_weight "
                    "guides it",
                    field=f"{field}.{name}",
                )
    guidance = guidance.model_copy(update=own.changes)
    if guidance.strategy is Strategy.JOINT:
        _refuse_in_joint(own, field)
    return guidance


def _refuse_in_joint(options: GuidanceOptions, field: str) -> None:
    for name in _NOT_JOINT:
        if name in options.changes:
            raise InvalidArgument(
                "joint guidance has text_weight alone, which guides text and neighbors together; leave this out, or "
                f"set {field}.strategy to weighted or interleaved",
                field=f"{field}.{name}",
            )
