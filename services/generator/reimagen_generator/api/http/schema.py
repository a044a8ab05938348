"""The bodies of the REST face: OpenAI's names, with what grounding adds to them."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from reimagen_common.http_errors import OpenAIError
from reimagen_common.models import when
from reimagen_generator.generation.request import PREVIEWS, GenerationRequest, OutputFormat, Previews


def _only(*values: str, advice: str) -> BeforeValidator:
    """Refuse values that OpenAI has and this service has not, and say what to do instead."""

    def check(value: object) -> object:
        if isinstance(value, str) and value not in values:
            raise ValueError(f"must be {' or '.join(values)}, or left out: {advice}")
        return value

    return BeforeValidator(check)


_RULES: Final[list[Any]] = [
    when("partial_images", {"type": "integer", "minimum": 1}, {"stream": {"const": True}}, required=("stream",)),
    when(
        "output_compression",
        {"type": "integer", "maximum": 99},
        {"output_format": {"enum": ["jpeg", "webp"]}},
        required=("output_format",),
    ),
]


class ImagesRequest(GenerationRequest):
    """A prompt, how it is to be grounded, and how the images are to come back."""

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

    previews: Previews = Field(
        0,
        alias="partial_images",
        description=f"How many unfinished images to send before the finished one, 0 to {PREVIEWS}; needs `stream`.",
    )
    response_format: Literal["b64_json", "url"] = Field(
        "b64_json", description="Images in the answer itself, or links that hold for an hour."
    )
    stream: bool = Field(False, strict=True, description="Answer with server-sent events while the images are drawn.")
    model: str | None = Field(None, description="The cascade, as /v1/models lists it; unset means the loaded one.")
    background: Annotated[
        Literal["auto", "opaque"],
        _only("auto", "opaque", advice="images have no transparent parts; cut them out of the image afterwards"),
    ] = Field("auto", description="Images are opaque.")
    style: Annotated[Literal["vivid"], _only("vivid", advice="say in the prompt how the image is to look")] = Field(
        "vivid", description="There is one style; the prompt says how an image is to look."
    )
    moderation: Literal["auto", "low"] = Field("auto", description="Nothing is moderated either way.")


class ImageData(BaseModel):
    """One image, whose file also says what it was grounded on."""

    b64_json: str | None = Field(None, description="The file, as base64.")
    url: str | None = Field(None, description="Where the file is for an hour.")
    seed: int = Field(description="Draws this image again.")


class TermData(BaseModel):
    """What a term of the prompt adds to a BM25 score: times * idf * tf."""

    term: str = Field(description="As the index has it, such as a stem.")
    times: int = Field(description="How often the prompt has it.")
    idf: float = Field(description="The greater, the fewer pairs have the term.")
    tf: float = Field(description="0 to 1: the greater, the oftener the caption has it and the shorter it is.")
    score: float


class ExplanationData(BaseModel):
    """Why a neighbor was found."""

    named: list[str] = Field(description="The things of the prompt that the caption names.")
    terms: list[TermData] = Field(description="The most first; none where it was found by vectors alone.")
    cosine: float | None = Field(None, description="Of the vectors of prompt and pair, where they were compared.")
    bm25_rank: int | None = Field(None, description="Of a hybrid search, in BM25's ranking.")
    dense_rank: int | None = Field(None, description="Of a hybrid search, in the vectors' ranking.")


class NothingFoundData(BaseModel):
    """Why the images are drawn from the text alone."""

    reason: str
    field: str | None = Field(None, description="Of the request, to change.", examples=["retrieval.relevance"])
    nearest: str | None = Field(None, description="The caption that would be found first if all pairs were taken.")
    nearest_id: str | None = Field(None, description="Its id in the knowledge base.")
    lacking: list[str] = Field([], description="Words of the prompt that the nearest caption would need.")


class NeighborData(BaseModel):
    """A pair that the images were grounded on; a reference of the caller has only its text."""

    id: str | None = Field(None, description="In the knowledge base.")
    caption: str = Field(description="What it shows.")
    source: str | None = Field(None, description="Where it came from.")
    license: str | None = Field(None, description="An SPDX identifier where there is one.")
    rank: int | None = Field(None, description="From 1, the best.")
    score: float | None = Field(None, description="Of the retrieval method; comparable within one answer.")
    explanation: ExplanationData | None = Field(None, description="Why it was found, where that was asked for.")
    b64_json: str | None = Field(None, description="Its image, as base64, where the images come that way.")
    url: str | None = Field(None, description="Its image, where the images come as links.")


class Grounds(BaseModel):
    """What the images are grounded on."""

    neighbors: list[NeighborData] = Field(description="Best first.")
    text_only: bool = Field(description="Nothing was asked for or nothing relevant found: drawn from the text alone.")
    nothing_found: NothingFoundData | None = Field(
        None, description="Why there are no neighbors, where there are none."
    )
    revision: str = Field(description="Of the knowledge base; empty when nothing was retrieved.")
    cascade: str = Field(description="The cascade that draws.")
    seed: int = Field(description="Of the first image.")


class ImagesResponse(Grounds):
    """The images, and what they are grounded on."""

    created: int = Field(description="Seconds since 1970.")
    size: str = Field(description="Width and height.", examples=["256x256"])
    output_format: OutputFormat = Field(description="Of the files.")
    data: list[ImageData] = Field(description="The images, in the order of their seeds.")


class NeighborsEvent(Grounds):
    """The first event of a stream."""

    type: Literal["image_generation.neighbors"] = "image_generation.neighbors"


class ProgressEvent(BaseModel):
    """A step is done."""

    type: Literal["image_generation.progress"] = "image_generation.progress"
    index: int = Field(description="Of the image that is being drawn, from 0; the first of them if they are several.")
    stage: int = Field(description="Of the cascade, from 0.")
    size: int = Field(description="Side of the stage's image.")
    step: int = Field(description="Steps done.")
    steps: int = Field(description="Steps of the stage.")


class PartialImageEvent(BaseModel):
    """The first image, unfinished."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    partial_image_index: int = Field(description="From 0.")
    b64_json: str = Field(description="A PNG file, as base64.")
    created_at: int = Field(description="Seconds since 1970.")
    size: str = Field(description="Width and height of what the stage predicts.")
    output_format: Literal["png"] = "png"


class CompletedEvent(ImageData):
    """A finished image; the n-th of them ends a stream."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    index: int = Field(description="Of the image, from 0.")
    created_at: int = Field(description="Seconds since 1970.")
    size: str = Field(description="Width and height.")
    output_format: OutputFormat = Field(description="Of the file.")


class ErrorEvent(BaseModel):
    """What went wrong in mid-stream, which ends it."""

    type: Literal["error"] = "error"
    error: OpenAIError


StreamEvent = NeighborsEvent | ProgressEvent | PartialImageEvent | CompletedEvent
STREAM_EVENTS: Final = (NeighborsEvent, ProgressEvent, PartialImageEvent, CompletedEvent, ErrorEvent)


class Model(BaseModel):
    """A loaded cascade, as OpenAI's clients list models."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When it was loaded, in seconds since 1970.")
    owned_by: str = "reimagen"
    sizes: list[str] = Field(description="What may be asked for.", examples=[["64x64", "256x256", "1024x1024"]])
    default_k: int = Field(description="Neighbors, where a request names no number.")
    maximum_k: int = Field(description="The most neighbors that a request may have.")


class Models(BaseModel):
    """The loaded cascades."""

    object: Literal["list"] = "list"
    data: list[Model]
