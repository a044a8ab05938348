"""A setting: all that decides, beside the prompt and the seed, what an image of an evaluation looks like."""

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
    """What a setting changes of one stage; None keeps the cascade's own."""

    steps: int | None = Field(None, ge=1, le=1000, description="Sampling steps.")
    sampler: SamplerKind | None = None
    strategy: Strategy | None = None
    text_weight: float | None = Field(None, ge=0, le=100, description="w_p.")
    neighbor_weight: float | None = Field(None, ge=0, le=100, description="w_n.")
    interleave_ratio: float | None = Field(None, ge=0, le=1, description="η.")
    grounded: bool = Field(True, description="Whether this stage is shown the neighbors.")


class Setting(_Frozen):
    """How images are drawn."""

    weights: Path = Field(description="Folder of the cascade.")
    size: int = Field(description="Side of the images: the cascade is run up to that stage.")
    neighbors: str = Field(
        NONE,
        description="Where neighbors come from: none, references (the item's own), or the name of a knowledge base, "
        "for which a run is given the address of a retriever.",
    )
    k: int | None = Field(None, ge=0, le=16, description="Neighbors of an image; None for the cascade's default.")
    method: Method = Field("bm25", description="How the knowledge base is searched.")
    per_entity: bool = Field(False, description="Search for each entity of the prompt, not for the whole prompt.")
    skip: int = Field(0, ge=0, le=15, description="The best neighbors to pass over, so that the next ones are shown.")
    unrelated: int = Field(0, ge=0, le=16, description="Neighbors, the last ones, replaced by another prompt's.")
    relevant_only: bool | None = Field(
        None,
        description="Whether neighbors found that have nothing to do with the prompt are left out; None as served.",
    )
    stages: Mapping[int, StageChange] = Field({}, description="What is changed of the stage of a size.")

    def neighbors_of(self, config: CascadeConfig) -> int:
        """How many neighbors an image has at most."""
        if self.neighbors == NONE:
            return 0
        return config.default_k if self.k is None else self.k

    def judges_relevance(self, config: CascadeConfig) -> bool:
        """Whether what is found is checked against the prompt; an item's own references never are."""
        wanted = config.relevant_only if self.relevant_only is None else self.relevant_only
        return wanted and self.neighbors not in (NONE, REFERENCES)

    def change(self, config: CascadeConfig) -> tuple[StageConfig, ...]:
        """The cascade's stages up to `size`, as this setting has them.

        Raises:
            InvalidArgument: the cascade has no such stage, or a stage cannot be as it is asked to.
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
            whole["timestep_respacing"] = None  # they add up to the steps that the cascade had
        guidance = stage.guidance.model_dump() | given
        try:
            return StageConfig.model_validate(stage.model_dump() | whole | {"guidance": guidance})
        except ValidationError as error:
            first = error.errors()[0]
            raise from_validation_error(first, ("stages", stage.size, *first["loc"])) from error
