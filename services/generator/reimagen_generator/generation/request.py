"""The model of a request for images, shared by REST and gRPC, with all limits."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from reimagen_common.errors import NOT_BLANK, from_validation_error
from reimagen_common.models import WHOLE, when, whole
from reimagen_generator.config.cascade import SamplerKind
from reimagen_generator.generation.request_parts import Guidance, Reference, RequestModel, StageChange, Steps

PROMPT_CHARACTERS = 1_000
IMAGES = 10
NEIGHBORS = 16
PREVIEWS = 3
STAGES = 8
USER_CHARACTERS = 256
SEEDS = 2**32

FILTER_VALUES = 64
EXCLUDED_IDS = 500
LARGEST_SIDE = 100_000
LONGEST_VALUE = 2_000
LONGEST_SOURCE = 1_000

Method = Literal["bm25", "dense", "hybrid"]
Relevance = Literal["any", "entity", "phrase"]
OutputFormat = Literal["png", "jpeg", "webp"]
Quality = Literal["auto", "low", "medium", "high", "standard", "hd"]

STEPS_FACTORS: Mapping[Quality, float] = {"auto": 1, "low": 0.5, "medium": 1, "high": 2, "standard": 1, "hd": 2}
"""Factor by which each quality multiplies the steps of a stage."""

_TWO_STEPS = "must not be set together with quality, which also says how many steps to take"


def _parse_size(value: object) -> object:
    """Convert OpenAI's "256x256" to 256 and "auto" to None; return other values unchanged."""
    if value == "auto":
        return None
    if isinstance(value, str):
        sides = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", value, re.ASCII)
        if sides is None or sides[1] != sides[2]:
            raise ValueError('must be a square such as "256x256", or "auto"')
        return int(sides[1])
    return whole(value)


Prompt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=PROMPT_CHARACTERS,
        description="Text that says what to draw, 1 to 1,000 characters.",
        examples=["a red panda in the snow"],
        json_schema_extra={"pattern": NOT_BLANK},
    ),
]
Count = Annotated[int, Field(strict=True, ge=1, le=IMAGES, description="Number of images, 1 to 10."), WHOLE]
Size = Annotated[
    StrictInt | None,
    BeforeValidator(_parse_size),
    WithJsonSchema(
        {
            "type": "string",
            "examples": ["64x64", "256x256", "1024x1024", "auto"],
            "description": "Width and height in pixels. `auto`: 256x256 if the cascade draws it, else its largest.",
        }
    ),
]
Seed = Annotated[int, Field(strict=True, ge=0, lt=SEEDS), WHOLE]
Previews = Annotated[
    int,
    Field(strict=True, ge=0, le=PREVIEWS, description="Number of previews of the unfinished first image, 0 to 3."),
    WHOLE,
]
_Value = Annotated[str, Field(max_length=LONGEST_VALUE)]
_Source = Annotated[str, Field(min_length=1, max_length=LONGEST_SOURCE)]


class Retrieval(RequestModel):
    """The parameters of the search for neighbors."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                when("per_entity", {"const": True}, {"method": {"enum": ["bm25", None]}}),
                when("method", {"const": "dense"}, {"relevance": {"type": "null"}}),
            ]
        }
    )

    k: Annotated[int, Field(strict=True, ge=0, le=NEIGHBORS), WHOLE] | None = Field(
        None,
        description="Maximum number of neighbors, 0 to 16; 0 uses the prompt alone. Unset: the cascade's default.",
        examples=[2],
    )
    method: Method = Field(
        "bm25",
        description="Search by words (`bm25`), by vectors (`dense`, if the base has vectors), or by both (`hybrid`).",
    )
    per_entity: bool = Field(
        False,
        strict=True,
        description="Find neighbors for each entity that the prompt names, in turn. Otherwise the neighbors are those "
        "that match the whole prompt best, and often all show one entity. Only with method bm25.",
    )
    minimum_score: Annotated[float, Field(strict=True, ge=-1, le=1_000_000, allow_inf_nan=False)] | None = Field(
        None,
        description="Minimum score of a neighbor, by the method. Unless `relevance` is set, all pairs that reach it "
        "are relevant.",
    )
    relevance: Relevance | None = Field(
        None,
        description="What a caption must share with the prompt: any word (`any`), the main word of an entity that the "
        "prompt names (`entity`), or every word of the phrase that names it (`phrase`). Unset: the default of "
        "the retriever.",
    )
    explain: bool = Field(False, strict=True, description="Explain why each neighbor was found.")
    licenses: tuple[_Value, ...] = Field(
        (),
        max_length=FILTER_VALUES,
        description="Use only pairs under one of these licenses, spelled as in the knowledge base. An empty license "
        "means unknown.",
        examples=[["CC0-1.0", "MIT"]],
    )
    sources: tuple[_Source, ...] = Field(
        (),
        max_length=FILTER_VALUES,
        description="Use only pairs whose source begins with one of these, such as `https://example.org/`.",
    )
    minimum_side: Annotated[int, Field(strict=True, ge=0, le=LARGEST_SIDE), WHOLE] = Field(
        0, description="Minimum length of an image's shorter side, in pixels."
    )
    safe_only: bool = Field(
        True,
        strict=True,
        description="Leave out pairs that their source marks as not safe for work. Unmarked pairs are included.",
    )
    exclude_ids: tuple[_Value, ...] = Field(
        (),
        max_length=EXCLUDED_IDS,
        description="Ids of pairs to leave out, such as unsuitable neighbors of an earlier request.",
    )

    @field_validator("per_entity")
    @classmethod
    def _check_per_entity(cls, per_entity: bool, info: ValidationInfo) -> bool:
        method = info.data.get("method", "bm25")
        if per_entity and method != "bm25":
            raise ValueError(f"requires method bm25, got {method}: entities are found by the words of the prompt")
        return per_entity

    @field_validator("relevance")
    @classmethod
    def _check_relevance(cls, relevance: Relevance | None, info: ValidationInfo) -> Relevance | None:
        if relevance is not None and info.data.get("method", "bm25") == "dense":
            raise ValueError("requires method bm25 or hybrid; for dense, set minimum_score instead")
        return relevance


class GenerationRequest(RequestModel):
    """A request for n images of a prompt, with the parameters of retrieval and drawing."""

    prompt: Prompt
    negative_prompt: Annotated[str, Field(max_length=PROMPT_CHARACTERS)] | None = Field(
        None,
        description="Text that says what not to draw, at most 1,000 characters. Guidance leads away from it instead of "
        "from no text, so it has no effect in a stage whose `text_weight` is 1. Blank: none.",
        examples=["blurry"],
    )
    n: Count = 1
    size: Size = None
    seed: Seed | None = Field(
        None,
        description="Seed of the first image; image i has seed + i. The same seed gives the same image. Unset: random.",
        examples=[7],
    )
    retrieval: Retrieval = Field(Retrieval(), description="Parameters of the search for neighbors.")
    guidance: Guidance = Field(
        Guidance(), description="Guidance of the retrieval-conditioned stages that overrides the cascade's."
    )
    references: tuple[Reference, ...] = Field(
        (),
        max_length=NEIGHBORS,
        description="Neighbors, best first, at most 16: images with captions, or pairs of the knowledge base by their "
        "ids. If there are any, nothing is searched.",
    )
    previews: Previews = 0
    output_format: OutputFormat = Field("png", description="File format of the images.")
    output_compression: Annotated[int, Field(strict=True, ge=0, le=100), WHOLE] | None = Field(
        None,
        description="Quality of JPEG and WebP files, from 0 to 100 (best and largest). Unset: 95. PNG is lossless, so "
        "only 100 is valid for it.",
    )
    quality: Quality = Field(
        "auto",
        description="Number of steps: `low` takes half of each stage's steps, `high` and `hd` twice as many; `auto`, "
        "`medium` and `standard` take the stage's steps.",
    )
    steps: Steps | None = Field(
        None,
        description="Number of sampling steps of each stage, 1 to 1,000; not together with `quality`. Unset: the "
        "stage's own.",
        examples=[30],
    )
    sampler: SamplerKind | None = Field(
        None,
        description="Sampler of all stages; `dpm-solver++` and `unipc` reject interleaved guidance. Unset: the stage's "
        "own.",
    )
    stages: tuple[StageChange, ...] = Field(
        (),
        max_length=STAGES,
        description="Changes of single stages, which override `steps`, `sampler` and `guidance`.",
        examples=[[{"size": 64, "steps": 40, "guidance": {"text_weight": 3}}]],
    )
    user: Annotated[str, Field(max_length=USER_CHARACTERS)] | None = Field(
        None, description="Id of your user, at most 256 characters. The log contains only the beginning of its SHA-256."
    )

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str) -> str:
        if not re.search(NOT_BLANK, prompt):
            raise ValueError("must not be blank")
        return prompt

    @field_validator("negative_prompt")
    @classmethod
    def _check_negative_prompt(cls, negative_prompt: str | None) -> str | None:
        return negative_prompt if negative_prompt and re.search(NOT_BLANK, negative_prompt) else None

    @field_validator("steps")
    @classmethod
    def _check_steps(cls, steps: int | None, info: ValidationInfo) -> int | None:
        if steps is not None and info.data.get("quality", "auto") != "auto":
            raise ValueError(_TWO_STEPS)
        return steps

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: tuple[StageChange, ...], info: ValidationInfo) -> tuple[StageChange, ...]:
        sizes = [stage.size for stage in stages]
        if repeated := {size for size in sizes if sizes.count(size) > 1}:
            raise ValueError(f"must name each size once, got {min(repeated)} more than once")
        if info.data.get("quality", "auto") != "auto" and any(stage.steps is not None for stage in stages):
            raise ValueError(f"steps {_TWO_STEPS}")
        return stages

    @field_validator("output_compression")
    @classmethod
    def _check_output_compression(cls, compression: int | None, info: ValidationInfo) -> int | None:
        if compression not in (None, 100) and info.data.get("output_format") == "png":
            raise ValueError("must be 100 with PNG, which is lossless; set output_format to jpeg or webp")
        return compression


def parse_request(values: Mapping[str, Any]) -> GenerationRequest:
    """Validate the fields of a request that did not arrive as JSON.

    Raises:
        InvalidArgument: A field is invalid. The error names the first one.
    """
    try:
        return GenerationRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise from_validation_error(first, first["loc"]) from error
