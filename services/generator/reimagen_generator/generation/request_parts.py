"""The parts of a request for images: references, guidance, and changes of single stages."""

import base64
import binascii
import re
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from reimagen_common.images import MAXIMUM_IMAGE_BYTES, READABLE_NAMES
from reimagen_common.models import WHOLE, NullIsUnset, when
from reimagen_generator.config.cascade import SamplerKind, Strategy

CAPTION_CHARACTERS = 1_000
REFERENCE_BYTES = MAXIMUM_IMAGE_BYTES
UPLOAD_ID_CHARACTERS = 64
PAIR_ID_CHARACTERS = 512
MAXIMUM_REFERENCE_WEIGHT = 10
STEPS = 1_000

_DATA_URL = re.compile(r"data:image/[a-z+.-]+;base64,", re.ASCII)


def _decode_base64(value: object) -> object:
    """Decode base64, plain or in a data URL; return other values unchanged."""
    if not isinstance(value, str):
        return value
    prefix = _DATA_URL.match(value)
    try:
        return base64.b64decode(value[prefix.end() :] if prefix else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError('must be base64, or a data URL such as "data:image/png;base64,..."') from error


Weight = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
Steps = Annotated[int, Field(strict=True, ge=1, le=STEPS), WHOLE]

# Joint guidance has only text_weight.
_JOINT_ALONE: dict[str, Any] = {"neighbor_weight": {"type": "null"}, "interleave_ratio": {"type": "null"}}


class RequestModel(NullIsUnset):
    """The base of the models of a request: unknown fields are rejected, and null means unset."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Guidance(RequestModel):
    """Changes of guidance. An unset field keeps the default of each stage."""

    model_config = ConfigDict(json_schema_extra={"allOf": [when("strategy", {"const": "joint"}, _JOINT_ALONE)]})

    strategy: Strategy | None = Field(
        None,
        description="How a step combines the guidance of text and neighbors. Unset: the default of each stage.",
        examples=["interleaved"],
    )
    text_weight: Weight | None = Field(
        None, description="Guidance weight of the text, 0 to 100. Unset: the default of each stage."
    )
    neighbor_weight: Weight | None = Field(
        None,
        description="Guidance weight of the neighbors, 0 to 100; not with strategy joint. Unset: the default of each "
        "stage.",
    )
    interleave_ratio: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None,
        description="Share of steps that enhance the text instead of the neighbors, 0 to 1; not with strategy joint. "
        "Unset: the default of each stage.",
    )


class StageChange(RequestModel):
    """Changes of one stage. An unset field keeps the value that the stage has without them."""

    size: Annotated[int, Field(strict=True, ge=1), WHOLE] = Field(
        description="Width and height of the stage's images in pixels, by which the stage is named.", examples=[64]
    )
    steps: Steps | None = Field(
        None, description="Number of sampling steps, 1 to 1,000; not together with `quality`.", examples=[40]
    )
    sampler: SamplerKind | None = Field(None, description="Sampler of the stage.")
    guidance: Guidance = Field(
        Guidance(),
        description="Guidance of the stage. A stage that does not see neighbors has only `text_weight`.",
    )


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _alone(*names: str) -> dict[str, Any]:
    """Return the JSON schema of a reference that has these fields and none of the others that exclude each other."""
    others = {"image", "id", "pair_id", "caption"} - set(names)
    kinds = dict.fromkeys(names, "string") | dict.fromkeys(others, "null")
    return {"required": list(names), "properties": {name: {"type": kind} for name, kind in kinds.items()}}


class Reference(RequestModel):
    """A neighbor that the caller names in place of a search: an image with a caption, or a pair."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_alone("image", "caption"), _alone("id", "caption"), _alone("pair_id")]}
    )

    id: str | None = Field(
        None, max_length=UPLOAD_ID_CHARACTERS, description="Id of an uploaded file (`/v1/files`), in place of `image`."
    )
    pair_id: str | None = Field(
        None,
        min_length=1,
        max_length=PAIR_ID_CHARACTERS,
        description="Id of a pair of the knowledge base, in place of `image` and `caption`: the neighbor is this pair, "
        "with its own image, caption, source and license.",
    )
    image: Annotated[
        bytes,
        BeforeValidator(_decode_base64),
        Field(strict=True, validate_default=True, json_schema_extra=_without_default),
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "contentEncoding": "base64",
                "format": "image",
                "description": "Image file of at most 4 MiB and 64 megapixels, as base64 or a data URL. Formats: "
                f"{READABLE_NAMES}.",
            }
        ),
    ] = b""
    caption: str | None = Field(
        None,
        max_length=CAPTION_CHARACTERS,
        validate_default=True,
        description="Text that says what the image shows, at most 1,000 characters. Required with `image` and `id`; "
        "not with `pair_id`, since a pair has a caption.",
        examples=["a red panda"],
    )
    weight: Annotated[float, Field(strict=True, ge=0, le=MAXIMUM_REFERENCE_WEIGHT, allow_inf_nan=False)] = Field(
        1.0,
        description="Factor of the share of this neighbor in the attention to the neighbors, 0 to 10: with 2 it counts "
        "like two equal neighbors, with 0 it is ignored. Retrieved neighbors have 1. All weights above 0 of a single "
        "neighbor give the same image.",
    )
    cut_out: bool = Field(
        False,
        strict=True,
        description="Whether to cut the object of the image out and put it on a plain ground, as for a photograph "
        "whose background must not be drawn. If nothing can be cut out, the image is used as it is, and the answer has "
        "a warning.",
    )

    @field_validator("pair_id")
    @classmethod
    def _check_pair_id(cls, pair_id: str | None, info: ValidationInfo) -> str | None:
        if pair_id is not None and info.data.get("id") is not None:
            raise ValueError("must not be set together with id")
        return pair_id

    @field_validator("image")
    @classmethod
    def _check_image(cls, image: bytes, info: ValidationInfo) -> bytes:
        for other in ("id", "pair_id"):
            if info.data.get(other) is not None:
                if image:
                    raise ValueError(f"must not be set together with {other}")
                return image
        if not image:
            raise ValueError(
                "is required, with at least one byte, or the id of an uploaded file, or the pair_id of a pair"
            )
        if len(image) > REFERENCE_BYTES:
            raise ValueError(f"must be a file of 1 to {REFERENCE_BYTES:,} bytes, got {len(image):,}")
        return image

    @field_validator("caption")
    @classmethod
    def _check_caption(cls, caption: str | None, info: ValidationInfo) -> str | None:
        is_pair = info.data.get("pair_id") is not None
        if is_pair and caption is not None:
            raise ValueError("must not be set together with pair_id: the pair's own caption is used")
        if not is_pair and caption is None:
            raise ValueError("is required: a text that says what the image shows")
        return caption
