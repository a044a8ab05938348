"""The options of a request for images, and the JSON body that they become."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Required, TypedDict

from reimagen_client.errors import InvalidRequest

Method = Literal["bm25", "dense", "hybrid"]
Relevance = Literal["any", "entity", "phrase"]
Quality = Literal["auto", "low", "medium", "high"]
OutputFormat = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True)
class Reference:
    """An image to ground the result on, in place of retrieved pairs. Set exactly one of `image`, `id` and `pair_id`.

    Raises:
        InvalidRequest: None or several of them are set, or the image cannot be read.
    """

    image: bytes | str | Path | None = None
    """Image file: its content, or its path."""
    id: str | None = None
    """Id of an uploaded file."""
    pair_id: str | None = None
    """Id of a pair of the knowledge base."""
    caption: str | None = None
    """What the image shows. None: the prompt; for a pair, its own caption."""
    weight: float | None = None
    """Weight of the reference, 0 to 10. None: 1, as for a retrieved pair."""
    cut_out: bool = False
    """Whether the service cuts the object of the image out, as for a photograph whose background is not wanted."""

    def __post_init__(self) -> None:
        given = [name for name in ("image", "id", "pair_id") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidRequest(
                f"references: set exactly one of image, id and pair_id, got {' and '.join(given) or 'none'}",
                field="references",
            )

    def content(self) -> bytes | None:
        """Return the content of the image, or None if the service has it.

        Raises:
            InvalidRequest: The file cannot be read.
        """
        return None if self.image is None else read_image(self.image, field="references")

    def caption_for(self, prompt: str) -> str | None:
        """Return the caption to send with a prompt."""
        return self.caption if self.caption is not None or self.pair_id is not None else prompt


class Retrieval(TypedDict, total=False):
    """The parameters of the search for neighbors. What is left out keeps the service's default."""

    k: int
    method: Method
    per_entity: bool
    relevance: Relevance
    minimum_score: float
    explain: bool
    licenses: Sequence[str]
    sources: Sequence[str]
    minimum_side: int
    safe_only: bool
    exclude_ids: Sequence[str]


class Search(Retrieval, total=False):
    """The parameters of a search of the knowledge base."""

    keep_duplicates: bool
    check_policy: bool


class Guidance(TypedDict, total=False):
    """The guidance that overrides the cascade's."""

    strategy: Literal["joint", "weighted", "interleaved"]
    text_weight: float
    neighbor_weight: float
    interleave_ratio: float


class StageChange(TypedDict, total=False):
    """Changes of the stage that draws images of `size` pixels. What is left out keeps the value of the request."""

    size: Required[int]
    steps: int
    sampler: str
    guidance: Guidance


class Options(TypedDict, total=False):
    """The options of a request for images. What is left out, or None, keeps the service's default."""

    n: int | None
    size: int | str | None
    seed: int | None
    k: int | None
    retrieval: Retrieval | None
    guidance: Guidance | None
    references: Sequence[Reference | str | Path] | None
    quality: Quality | None
    output_format: OutputFormat | None
    output_compression: int | None
    negative_prompt: str | None
    steps: int | None
    sampler: str | None
    stages: Sequence[StageChange] | None
    model: str | None
    user: str | None


PREVIEWS: Final = "partial_images"
_PLAIN: Final = (
    *("n", "seed", "quality", "output_format", "output_compression", "negative_prompt", "steps", "sampler"),
    *("model", "user"),
)


def read_image(image: bytes | str | Path, *, field: str) -> bytes:
    """Return the content of an image file that is given by its content or path.

    Raises:
        InvalidRequest: The file cannot be read. The error names the field.
    """
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{field}: cannot read {image}: {error.strerror}", field=field) from error


def references_of(options: Mapping[str, Any]) -> list[Reference]:
    """Return the references of options; a path becomes the reference to its image."""
    given = options.get("references") or ()
    return [one if isinstance(one, Reference) else Reference(image=one) for one in given]


def retrieval_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the search, in which the option `k` takes precedence."""
    retrieval = dict(options.get("retrieval") or {})
    if options.get("k") is not None:
        retrieval["k"] = options["k"]
    return retrieval


def size_text(size: int | str) -> str:
    """Return OpenAI's text of a size, such as `256x256`, for a number of pixels."""
    text = str(size)
    return f"{text}x{text}" if text.isdecimal() else text


def check_names(options: Mapping[str, Any]) -> None:
    """Raise TypeError for names that are no options, as Python does for unknown arguments."""
    if unknown := sorted(options.keys() - Options.__annotations__.keys()):
        raise TypeError(f"unknown options: {', '.join(unknown)}; the options are {', '.join(Options.__annotations__)}")


def body_of(prompt: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON body of a request for images.

    Raises:
        InvalidRequest: A reference cannot be read.
        TypeError: An option is unknown.
    """
    check_names(options)
    body: dict[str, Any] = {"prompt": prompt}
    body |= {name: options[name] for name in _PLAIN if options.get(name) is not None}
    if options.get("size") is not None:
        body["size"] = size_text(options["size"])
    if retrieval := retrieval_of(options):
        body["retrieval"] = retrieval
    if guidance := options.get("guidance"):
        body["guidance"] = dict(guidance)
    if stages := options.get("stages"):
        body["stages"] = [dict(stage) for stage in stages]
    if references := references_of(options):
        body["references"] = [reference_body(reference, prompt) for reference in references]
    return body


def reference_body(reference: Reference, prompt: str) -> dict[str, Any]:
    """Return the JSON of a reference of a request with that prompt.

    Raises:
        InvalidRequest: The image cannot be read.
    """
    content = reference.content()
    fields = {
        "image": None if content is None else base64.b64encode(content).decode(),
        "id": reference.id,
        "pair_id": reference.pair_id,
        "caption": reference.caption_for(prompt),
        "weight": reference.weight,
        "cut_out": reference.cut_out or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
