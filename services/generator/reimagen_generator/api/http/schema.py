"""The bodies of the REST API: OpenAI's fields, and the fields that retrieval adds."""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from reimagen_common.http_errors import OpenAIError
from reimagen_common.models import when
from reimagen_generator.config.cascade import SamplerKind, Strategy
from reimagen_generator.generation.request import PREVIEWS, GenerationRequest, OutputFormat, Previews


def _only(*values: str, advice: str) -> BeforeValidator:
    """Return a validator that rejects values that OpenAI supports and this service does not, with advice."""

    def check(value: object) -> object:
        if isinstance(value, str) and value not in values:
            raise ValueError(f"must be {' or '.join(values)}, or unset: {advice}")
        return value

    return BeforeValidator(check)


Operation = Literal["image_generation", "image_edit"]
_Quality = Annotated[
    Literal["low", "medium", "high"], Field(description="Quality that the images were drawn with: `medium` for `auto`.")
]

COMPRESSION_RULE: Final = when(
    "output_compression",
    {"type": "integer", "maximum": 99},
    {"output_format": {"enum": ["jpeg", "webp"]}},
    required=("output_format",),
)
"""The JSON schema of the rule that only JPEG and WebP can be compressed."""
STEPS_RULE: Final = when("steps", {"type": "integer"}, {"quality": {"enum": ["auto", None]}})
"""The JSON schema of the rule that either a quality or a number of steps is set."""
_RULES: Final[list[Any]] = [
    when("partial_images", {"type": "integer", "minimum": 1}, {"stream": {"const": True}}, required=("stream",)),
    COMPRESSION_RULE,
    STEPS_RULE,
]


class ImagesRequest(GenerationRequest):
    """A request for images, with the fields of OpenAI's API."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": _RULES,
            "examples": [
                {"prompt": "a red panda in the snow"},
                {
                    "prompt": "a red panda in the snow",
                    "n": 2,
                    "size": "256x256",
                    "seed": 7,
                    "retrieval": {"k": 2, "method": "bm25"},
                    "guidance": {"strategy": "interleaved", "text_weight": 2, "neighbor_weight": 2},
                },
            ],
        }
    )

    operation: ClassVar[Operation] = "image_generation"
    """The first part of the types of server-sent events."""

    previews: Previews = Field(
        0,
        alias="partial_images",
        description=f"Number of previews of the unfinished first image, 0 to {PREVIEWS}. Requires `stream`.",
    )
    response_format: Literal["b64_json", "url"] = Field(
        "b64_json",
        description="Whether the answer contains the images (`b64_json`) or links to them, valid for an hour.",
    )
    stream: bool = Field(False, strict=True, description="Send server-sent events while the images are drawn.")
    model: str | None = Field(None, description="Name of the cascade, as in `/v1/models`. Unset: the loaded one.")
    background: Annotated[
        Literal["auto", "opaque"],
        _only("auto", "opaque", advice="images have no transparent parts; remove the background afterwards"),
    ] = Field("auto", description="Background of the images, which is always opaque.")
    style: Annotated[Literal["vivid"], _only("vivid", advice="describe the style in the prompt")] = Field(
        "vivid", description="Style of the images. Only `vivid` is valid; describe other styles in the prompt."
    )
    moderation: Literal["auto", "low"] = Field(
        "auto", description="OpenAI's level of moderation. It has no effect: nothing is moderated."
    )


class EditsRequest(ImagesRequest):
    """A request for images of a prompt that are grounded on the images of a form."""

    operation: ClassVar[Operation] = "image_edit"

    input_fidelity: Annotated[
        Literal["low"], _only("low", advice="set guidance.neighbor_weight to follow the images more closely")
    ] = Field("low", description="OpenAI's fidelity to the images. Only `low` is valid; see `guidance`.")


class ImageData(BaseModel):
    """One image. Its file also contains its provenance."""

    b64_json: str | None = Field(None, description="Image file as base64, if `response_format` is `b64_json`.")
    url: str | None = Field(
        None, description="Link to the image file, valid for an hour, if `response_format` is `url`."
    )
    seed: int | None = Field(
        None, description="Seed of this image; the same seed draws it again. Unset if the model has no seeds."
    )


class TermData(BaseModel):
    """The contribution of a term of the prompt to a BM25 score: times * idf * tf."""

    term: str = Field(description="Term of the index, such as a stem.")
    times: int = Field(description="Number of occurrences in the prompt.")
    idf: float = Field(description="Inverse document frequency: the fewer captions have the term, the larger.")
    tf: float = Field(
        description="Normalized term frequency, 0 to 1: larger for more occurrences in the caption and for shorter "
        "captions."
    )
    score: float = Field(description="Contribution to the BM25 score.")


class ExplanationData(BaseModel):
    """The explanation of a neighbor."""

    named: list[str] = Field(description="Entities of the prompt that the caption names.")
    terms: list[TermData] = Field(
        description="Contributions of the prompt's terms, largest first; empty if only vectors found it."
    )
    cosine: float | None = Field(None, description="Cosine of the vectors of prompt and pair, if they were compared.")
    bm25_rank: int | None = Field(
        None, description="Rank in the BM25 part of a hybrid search, from 1; unset if not in it."
    )
    dense_rank: int | None = Field(
        None, description="Rank in the dense part of a hybrid search, from 1; unset if not in it."
    )


class NothingFoundData(BaseModel):
    """The reason why there are no neighbors."""

    reason: str = Field(description="Sentence that says why no neighbor was found.")
    field: str | None = Field(None, description="Field of the request to change.", examples=["retrieval.relevance"])
    nearest: str | None = Field(
        None, description="Caption of the pair that would rank first if every pair were relevant."
    )
    nearest_id: str | None = Field(None, description="Id of the pair with that caption.")
    lacking: list[str] = Field([], description="Words of the prompt that the nearest caption lacks.")


class NeighborData(BaseModel):
    """A neighbor that the images were grounded on. An image from the request has only its caption and cut-out."""

    id: str | None = Field(None, description="Id in the knowledge base.")
    caption: str = Field(description="Caption of the image.")
    source: str | None = Field(None, description="Origin of the image; empty when unknown.")
    license: str | None = Field(None, description="SPDX identifier or name of the license; empty when unknown.")
    unsafe: float | None = Field(
        None, description="Probability that the image is not safe for work, if its source says so."
    )
    rank: int | None = Field(None, description="Rank in the search, from 1 for the best; unset for a reference.")
    score: float | None = Field(
        None,
        description="Score of the retrieval method; unset for a reference. Only scores of the same answer are "
        "comparable.",
    )
    explanation: ExplanationData | None = Field(None, description="Explanation, if `explain` is set.")
    cut_out: bool | None = Field(
        None, description="Whether the images are grounded on the object of the image alone, cut out. Unset if not."
    )
    warning: str | None = Field(None, description="Why nothing was cut out, if `cut_out` was requested.")
    b64_json: str | None = Field(
        None,
        description="Image file of the pair as base64, if `response_format` is `b64_json`; of a reference that is cut "
        "out, the cut-out, whatever the `response_format`. The neighbors of jobs have no files.",
    )
    url: str | None = Field(None, description="Link to the image of the pair, if `response_format` is `url`.")


class CutOutData(BaseModel):
    """A cut-out, or the reason why there is none."""

    b64_json: str | None = Field(None, description="PNG file of the object on a plain ground, as base64.")
    warning: str | None = Field(
        None, description="Why nothing was cut out. A request for images then uses the image as it is."
    )


class RefusedData(BaseModel):
    """A pair that the search found and the operator's policy left out."""

    id: str = Field(description="Id in the knowledge base.")
    reason: str = Field(description="Why it is not allowed.")


class Grounding(BaseModel):
    """The neighbors that the images are grounded on, and how they were found."""

    neighbors: list[NeighborData] = Field(description="Neighbors, best first.")
    text_only: bool = Field(
        description="Whether there are no neighbors, so that the images are drawn from the prompt alone."
    )
    nothing_found: NothingFoundData | None = Field(None, description="Reason if there are no neighbors.")
    refused: list[RefusedData] | None = Field(
        None, description="Pairs that were found and that the operator's policy left out, if any."
    )
    revision: str = Field(description="Revision of the knowledge base; empty if nothing was retrieved.")
    cascade: str = Field(description="Name of the cascade or other model that draws the images.")
    seed: int | None = Field(None, description="Seed of the first image. Unset if the model has no seeds.")


class TokenDetails(BaseModel):
    """The kinds of tokens."""

    text_tokens: int = Field(description="Number of words.")
    image_tokens: int = Field(description="Number of squares of 16 x 16 pixels.")


class UsageData(BaseModel):
    """What a request used, with the fields of OpenAI's API. Nothing is billed by it."""

    input_tokens: int = Field(description="Sum of the input's tokens.")
    input_tokens_details: TokenDetails = Field(
        description="Words of the prompt and of the neighbors' captions, and squares of 16 x 16 pixels of the "
        "neighbors, at the size of the cascade's first stage."
    )
    output_tokens: int = Field(description="Number of squares of 16 x 16 pixels of the images.")
    output_tokens_details: TokenDetails = Field(description="Tokens of the output, all of them of images.")
    total_tokens: int = Field(description="Sum of the tokens of input and output.")
    steps: int = Field(description="Sampling steps of all stages, summed over the images.")
    evaluations: int = Field(description="Evaluations of the networks for those steps: one to three per step.")


class ImagesResponse(Grounding):
    """The images, and the neighbors that they are grounded on."""

    created: int = Field(description="Time of completion, in seconds since 1970.")
    size: str = Field(description="Width and height of the images in pixels.", examples=["256x256"])
    output_format: OutputFormat = Field(description="File format of the images.")
    quality: _Quality
    background: Literal["opaque"] = Field("opaque", description="Background of the images.")
    data: list[ImageData] = Field(description="Images, in the order of their seeds.")
    usage: UsageData = Field(description="What the request used.")


class NeighborsEvent(Grounding):
    """The first event of a stream: the neighbors are found."""

    type: Literal["image_generation.neighbors", "image_edit.neighbors"]


class ProgressEvent(BaseModel):
    """The event that a step is done."""

    type: Literal["image_generation.progress", "image_edit.progress"]
    index: int = Field(description="Index of the image that is being drawn, from 0; of a batch, its first.")
    stage: int = Field(description="Index of the stage in the cascade, from 0.")
    size: int = Field(description="Width and height of the stage's image in pixels.")
    step: int = Field(description="Number of steps of the stage that are done, from 1.")
    steps: int = Field(description="Number of steps of the stage.")


class PartialImageEvent(BaseModel):
    """The event of a preview of the unfinished first image."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"]
    partial_image_index: int = Field(description="Index of the preview, from 0.")
    b64_json: str = Field(description="Preview, a PNG file as base64.")
    created_at: int = Field(description="Time of the preview, in seconds since 1970.")
    size: str = Field(description="Width and height of the preview in pixels, those of the stage's image.")
    output_format: Literal["png"] = "png"
    quality: _Quality
    background: Literal["opaque"] = Field("opaque", description="Background of the images.")


class CompletedEvent(ImageData):
    """The event of a finished image. The n-th of these events ends the stream."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    index: int = Field(description="Index of the image, from 0.")
    created_at: int = Field(description="Time of completion, in seconds since 1970.")
    size: str = Field(description="Width and height of the image in pixels.")
    output_format: OutputFormat = Field(description="Format of the image file.")
    quality: _Quality
    background: Literal["opaque"] = Field("opaque", description="Background of the images.")
    usage: UsageData = Field(description="What the request used up to this image.")


class ErrorEvent(BaseModel):
    """The event of an error that ends the stream early."""

    type: Literal["error"] = "error"
    error: OpenAIError


StreamEvent = NeighborsEvent | ProgressEvent | PartialImageEvent | CompletedEvent
STREAM_EVENTS: Final = (NeighborsEvent, ProgressEvent, PartialImageEvent, CompletedEvent, ErrorEvent)


class StageGuidance(BaseModel):
    """Guidance of a stage. A stage that does not see neighbors has only `text_weight`."""

    strategy: Strategy | None = Field(None, description="How a step combines the guidance of text and neighbors.")
    text_weight: float = Field(description="Guidance weight of the text.")
    neighbor_weight: float | None = Field(
        None, description="Guidance weight of the neighbors; not used with strategy joint."
    )
    interleave_ratio: float | None = Field(
        None, description="Share of steps that enhance the text; used with strategy interleaved alone."
    )


class StageData(BaseModel):
    """A stage of the cascade, with the values that a request can change in `stages`."""

    size: int = Field(description="Width and height of the stage's images in pixels, by which the stage is named.")
    steps: int = Field(description="Number of sampling steps.")
    sampler: SamplerKind = Field(description="Sampler.")
    sees_neighbors: bool = Field(description="Whether the stage sees the neighbors.")
    guided: bool = Field(description="Whether a request's `guidance` of all stages applies to the stage.")
    guidance: StageGuidance = Field(description="Guidance.")


class Model(BaseModel):
    """The cascade or other model that draws, in the format of OpenAI's list of models."""

    id: str = Field(description="Name of the model.")
    object: Literal["model"] = "model"
    created: int = Field(description="Time at which the service started, in seconds since 1970.")
    owned_by: str = "reimagen"
    sizes: list[str] = Field(description="Supported values of `size`.", examples=[["64x64", "256x256", "1024x1024"]])
    default_k: int = Field(description="Number of neighbors if a request does not set `retrieval.k`.")
    maximum_k: int = Field(description="Maximum number of neighbors of a request.")
    stages: list[StageData] = Field(description="Stages of the cascade, in order. Empty if the model is no cascade.")
    unsupported: list[str] = Field(
        description="Fields of a request that this model does not support and that must be unset. Empty for a cascade.",
        examples=[[]],
    )


class Models(BaseModel):
    """The models that draw."""

    object: Literal["list"] = "list"
    data: list[Model] = Field(description="Models that draw.")
