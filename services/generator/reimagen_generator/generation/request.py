"""What may be asked of the generator: one model for both faces, with the limits that the contract states."""

import base64
import binascii
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
from reimagen_common.images import MAXIMUM_IMAGE_BYTES, READABLE_NAMES
from reimagen_common.models import WHOLE, NullIsUnset, when, whole
from reimagen_generator.config.cascade import Strategy

PROMPT_CHARACTERS = 1_000
IMAGES = 10
REFERENCE_BYTES = MAXIMUM_IMAGE_BYTES
NEIGHBORS = 16
PREVIEWS = 3
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
"""How many of a stage's own steps each quality takes."""

_DATA_URL = re.compile(r"data:image/[a-z+.-]+;base64,", re.ASCII)


def _parse_size(value: object) -> object:
    """Read OpenAI's "256x256" and "auto"; leave a number as it is."""
    if value == "auto":
        return None
    if isinstance(value, str):
        sides = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", value, re.ASCII)
        if sides is None or sides[1] != sides[2]:
            raise ValueError('must be a square such as "256x256", or "auto"')
        return int(sides[1])
    return whole(value)


def _decode_base64(value: object) -> object:
    """Read base64, plain or as a data URL; leave bytes as they are."""
    if not isinstance(value, str):
        return value
    prefix = _DATA_URL.match(value)
    try:
        return base64.b64decode(value[prefix.end() :] if prefix else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError('must be base64, or a data URL such as "data:image/png;base64,..."') from error


Prompt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=PROMPT_CHARACTERS,
        description="What to draw.",
        examples=["a red panda in the snow"],
        json_schema_extra={"pattern": NOT_BLANK},
    ),
]
Count = Annotated[int, Field(strict=True, ge=1, le=IMAGES, description="How many images."), WHOLE]
Size = Annotated[
    StrictInt | None,
    BeforeValidator(_parse_size),
    WithJsonSchema(
        {
            "type": "string",
            "examples": ["64x64", "256x256", "1024x1024", "auto"],
            "description": "Width and height. `auto` is 256x256 where the cascade draws it, else its largest size.",
        }
    ),
]
Seed = Annotated[int, Field(strict=True, ge=0, lt=SEEDS), WHOLE]
Previews = Annotated[
    int,
    Field(strict=True, ge=0, le=PREVIEWS, description="How many previews of the unfinished first image to send."),
    WHOLE,
]
Weight = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


# Joint guidance has text_weight alone.
_JOINT_ALONE: dict[str, Any] = {"neighbor_weight": {"type": "null"}, "interleave_ratio": {"type": "null"}}

_Value = Annotated[str, Field(max_length=LONGEST_VALUE)]
_Source = Annotated[str, Field(min_length=1, max_length=LONGEST_SOURCE)]


class _Model(NullIsUnset):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retrieval(_Model):
    """How the neighbors are found."""

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
        description="How many neighbors; unset means the cascade's default, 0 draws from the text alone.",
        examples=[2],
    )
    method: Method = Field(
        "bm25",
        description="How the knowledge base is searched: by words, by meaning (where it has vectors), or by both.",
    )
    per_entity: bool = Field(
        False,
        strict=True,
        description="Neighbors of each thing that the prompt names, in turn, instead of those that match it best as a "
        "whole, which are often all of one thing. With bm25 alone.",
    )
    minimum_score: Annotated[float, Field(strict=True, ge=-1, allow_inf_nan=False)] | None = Field(
        None,
        description="Pairs that score less, by the method's score, are no neighbors. Unless `relevance` is set, all "
        "others are.",
    )
    relevance: Relevance | None = Field(
        None,
        description="What a pair's caption must have: any word of the prompt, the main word of what the prompt asks "
        "for (`entity`), or every word of the phrase that names it; unset, as the retriever is set.",
    )
    explain: bool = Field(False, strict=True, description="Tell why each neighbor was found.")
    licenses: tuple[_Value, ...] = Field(
        (),
        max_length=FILTER_VALUES,
        description="Only pairs under one of these licenses, as the knowledge base spells them; an empty one means "
        "unknown.",
        examples=[["CC0-1.0", "MIT"]],
    )
    sources: tuple[_Source, ...] = Field(
        (), max_length=FILTER_VALUES, description="Only pairs whose source begins with one of these, such as a host."
    )
    minimum_side: Annotated[int, Field(strict=True, ge=0, le=LARGEST_SIDE), WHOLE] = Field(
        0, description="Only images whose shorter side has so many pixels."
    )
    safe_only: bool = Field(
        False,
        strict=True,
        description="Leave out images that their source says are not safe for work; those of which it says nothing "
        "stay.",
    )
    exclude_ids: tuple[_Value, ...] = Field(
        (), max_length=EXCLUDED_IDS, description="Pairs to leave out, such as neighbors that did no good."
    )

    @field_validator("per_entity")
    @classmethod
    def _per_entity_is_by_words(cls, per_entity: bool, info: ValidationInfo) -> bool:
        method = info.data.get("method", "bm25")
        if per_entity and method != "bm25":
            raise ValueError(f"goes with method bm25, not {method}: what the prompt names is found by its words")
        return per_entity

    @field_validator("relevance")
    @classmethod
    def _relevance_is_by_words(cls, relevance: Relevance | None, info: ValidationInfo) -> Relevance | None:
        if relevance is not None and info.data.get("method", "bm25") == "dense":
            raise ValueError("goes with method bm25 or hybrid: by vectors, minimum_score says what is near")
        return relevance


class Guidance(_Model):
    """Overrides the defaults of the cascade's retrieval-conditioned stages; what is unset keeps each stage's own."""

    model_config = ConfigDict(json_schema_extra={"allOf": [when("strategy", {"const": "joint"}, _JOINT_ALONE)]})

    strategy: Strategy | None = Field(
        None, description="How the text's and the neighbors' guidance combine.", examples=["interleaved"]
    )
    text_weight: Weight | None = Field(None, description="How strongly the text guides, 0 to 100.")
    neighbor_weight: Weight | None = Field(None, description="How strongly the neighbors guide, 0 to 100.")
    interleave_ratio: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="The share of steps that enhance the text rather than the neighbors, 0 to 1."
    )


class Reference(_Model):
    """An image given by the caller in place of a retrieved pair."""

    image: Annotated[
        bytes,
        BeforeValidator(_decode_base64),
        Field(strict=True),
        WithJsonSchema(
            {
                "type": "string",
                "contentEncoding": "base64",
                "format": "image",
                "description": "An image file of at most 4 MiB and 64 megapixels, as base64 or as a data URL: "
                f"{READABLE_NAMES}.",
            }
        ),
    ]
    caption: str = Field(max_length=PROMPT_CHARACTERS, description="What it shows.", examples=["a red panda"])

    @field_validator("image")
    @classmethod
    def _image_fits(cls, image: bytes) -> bytes:
        if not 1 <= len(image) <= REFERENCE_BYTES:
            raise ValueError(f"must be a file of 1 to {REFERENCE_BYTES:,} bytes, got {len(image):,}")
        return image


class GenerationRequest(_Model):
    """One call: n images of a prompt, and what they are to be grounded on."""

    prompt: Prompt
    n: Count = 1
    size: Size = None
    seed: Seed | None = Field(
        None,
        description="Image i is drawn from seed + i, and the same seed gives the same image. Unset: a random one.",
        examples=[7],
    )
    retrieval: Retrieval = Field(Retrieval(), description="Which pairs of the knowledge base to draw from.")
    guidance: Guidance = Field(Guidance(), description="Overrides the cascade's guidance.")
    references: tuple[Reference, ...] = Field(
        (),
        max_length=NEIGHBORS,
        description="When there are any, they are the neighbors and nothing is retrieved.",
    )
    previews: Previews = 0
    output_format: OutputFormat = Field("png", description="The file format of the images.")
    output_compression: Annotated[int, Field(strict=True, ge=0, le=100), WHOLE] | None = Field(
        None,
        description="The quality of JPEG and WebP files, 0 to 100, the best and largest; unset means 95. PNG loses "
        "nothing, so that it takes 100 alone.",
    )
    quality: Quality = Field(
        "auto",
        description="How many steps to draw in: `low` takes half of each stage's own, `high` and `hd` twice as many; "
        "`auto`, `medium` and `standard` take them as they are.",
    )
    user: Annotated[str, Field(max_length=USER_CHARACTERS)] | None = Field(
        None, description="Your own user's id; the log has the beginning of its SHA-256."
    )

    @field_validator("prompt")
    @classmethod
    def _prompt_says_something(cls, prompt: str) -> str:
        if not re.search(NOT_BLANK, prompt):
            raise ValueError("must not be blank")
        return prompt

    @field_validator("output_compression")
    @classmethod
    def _png_is_not_compressed_with_loss(cls, compression: int | None, info: ValidationInfo) -> int | None:
        if compression not in (None, 100) and info.data.get("output_format") == "png":
            raise ValueError("must be 100 with PNG, which loses nothing; set output_format to jpeg or webp")
        return compression


def parse_request(values: Mapping[str, Any]) -> GenerationRequest:
    """Validate a request that did not come as JSON.

    Raises:
        InvalidArgument: naming the first field that is wrong.
    """
    try:
        return GenerationRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise from_validation_error(first, first["loc"]) from error
