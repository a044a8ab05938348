"""A setting: everything besides the prompt and the seed that determines an image of an evaluation."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import InvalidArgument, from_validation_error
from reimagen_generator.config.cascade import CascadeConfig, SamplerKind, StageConfig, Strategy
from reimagen_generator.generation.request import Method

NONE = "none"
REFERENCES = "references"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageChange(_Frozen):
    """A setting's changes to one stage; None keeps the cascade's value."""

    steps: int | None = Field(None, ge=1, le=1000, description="Number of sampling steps, 1 to 1000.")
    sampler: SamplerKind | None = Field(None, description="Sampler of the stage.")
    strategy: Strategy | None = Field(None, description="Guidance strategy of the stage.")
    text_weight: float | None = Field(None, ge=0, le=100, description="Guidance weight of the text, w_p, 0 to 100.")
    neighbor_weight: float | None = Field(
        None, ge=0, le=100, description="Guidance weight of the neighbors, w_n, 0 to 100."
    )
    interleave_ratio: float | None = Field(None, ge=0, le=1, description="Interleave ratio η, 0 to 1.")
    interval: tuple[float, float] | None = Field(None, description="Log-SNRs within which guidance is used.")
    grounded: bool = Field(True, description="Whether this stage receives the neighbors.")


class Setting(_Frozen):
    """How the images of an evaluation are drawn."""

    weights: Path = Field(description="Folder of the cascade.")
    size: int = Field(description="Side of the images in pixels; the cascade runs up to the stage of this size.")
    neighbors: str = Field(
        NONE,
        description="Source of neighbors: none, references (the item's own), or the name of a knowledge base, whose "
        "retriever's address is given to the run.",
    )
    k: int | None = Field(None, ge=0, le=16, description="Number of neighbors; None for the cascade's default.")
    method: Method = Field("bm25", description="Search method in the knowledge base.")
    per_entity: bool = Field(False, description="Whether to search for each entity of the prompt separately.")
    skip: int = Field(0, ge=0, le=15, description="Number of best neighbors to skip; the next ones are used instead.")
    unrelated: int = Field(
        0, ge=0, le=16, description="Number of neighbors, the last ones, that are replaced by another prompt's."
    )
    relevant_only: bool | None = Field(
        None,
        description="Whether to drop neighbors that are not relevant to the prompt; None for the cascade's default.",
    )
    stages: Mapping[int, StageChange] = Field({}, description="Changes to stages, by the stage's size in pixels.")

    def neighbors_of(self, config: CascadeConfig) -> int:
        """Return the greatest number of neighbors of an image."""
        if self.neighbors == NONE:
            return 0
        return config.default_k if self.k is None else self.k

    def judges_relevance(self, config: CascadeConfig) -> bool:
        """Return whether retrieved neighbors are checked for relevance; an item's own references never are."""
        checked = config.relevant_only if self.relevant_only is None else self.relevant_only
        return checked and self.neighbors not in (NONE, REFERENCES)

    def change(self, config: CascadeConfig) -> tuple[StageConfig, ...]:
        """Return the cascade's stages up to `size`, with this setting's changes.

        Raises:
            InvalidArgument: the cascade has no such stage, or a change makes a stage invalid.
        """
        sizes = [stage.size for stage in config.stages]
        for size in (self.size, *self.stages):
            if size not in sizes:
                known = ", ".join(map(str, sizes))
                raise InvalidArgument(f"cascade {config.name!r} has stages of {known}, none of {size}", field="size")
        return tuple(self._changed(stage) for stage in config.stages[: sizes.index(self.size) + 1])

    def _changed(self, stage: StageConfig) -> StageConfig:
        change = self.stages.get(stage.size, StageChange())
        given = {name: value for name, value in change.model_dump().items() if value is not None}
        given.pop("grounded")
        whole: dict[str, object] = {name: given.pop(name) for name in ("steps", "sampler") if name in given}
        if "steps" in whole:
            whole["timestep_respacing"] = None  # its counts add up to the cascade's own number of steps
        guidance = stage.guidance.model_dump() | given
        try:
            return StageConfig.model_validate(stage.model_dump() | whole | {"guidance": guidance})
        except ValidationError as error:
            first = error.errors()[0]
            raise from_validation_error(first, ("stages", stage.size, *first["loc"])) from error
