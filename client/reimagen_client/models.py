"""The results of requests. Fields that other services of OpenAI's API do not send are optional."""

import base64
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]

ENDED: Final = ("completed", "failed", "cancelled")
_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def _decode(value: object) -> object:
    """Decode text as base64; return other values unchanged."""
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


class Model(BaseModel):
    """A result. Unknown fields are ignored, so that newer services can be used."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Neighbor(Model):
    """A pair that images are grounded on. A reference from the request has only its caption and cut-out."""

    id: str | None = Field(None, description="Id in the knowledge base.")
    caption: str = Field(description="Caption of the image.")
    source: str | None = Field(None, description="Origin of the image; empty when unknown.")
    license: str | None = Field(None, description="SPDX identifier or name of the license; empty when unknown.")
    unsafe: float | None = Field(
        None, description="Probability that the image is not safe for work, if its source says so."
    )
    rank: int | None = Field(None, description="Rank, from 1 for the best.")
    score: float | None = Field(None, description="Score of the retrieval method.")
    explanation: dict[str, Any] | None = Field(None, description="Explanation, if `explain` was set.")
    weight: float | None = Field(
        None, description="Factor of its share of the attention, if a file's provenance names it."
    )
    cut_out: bool | None = Field(None, description="Whether the images are grounded on its object alone, cut out.")
    warning: str | None = Field(None, description="Why nothing was cut out, if that was requested.")
    image: Annotated[bytes, BeforeValidator(_decode)] | None = Field(
        None,
        validation_alias=AliasChoices("b64_json", "image"),
        repr=False,
        description="Image file, if the answer contains it.",
    )


class CutOut(Model):
    """The object of an image, cut out, or the reason why nothing was cut out."""

    image: Annotated[bytes, BeforeValidator(_decode)] | None = Field(
        None,
        validation_alias=AliasChoices("b64_json", "image"),
        repr=False,
        description="PNG file of the object on a plain ground.",
    )
    warning: str | None = Field(None, description="Why nothing was cut out; a request then uses the image as it is.")


class NothingFound(Model):
    """The reason why there are no neighbors."""

    reason: str = Field(description="Sentence that says why no neighbor was found.")
    field: str | None = Field(None, description="Field of the request to change.")
    nearest: str | None = Field(None, description="Caption of the pair that would rank first without conditions.")
    nearest_id: str | None = Field(None, description="Id of that pair.")
    lacking: tuple[str, ...] = Field((), description="Words of the prompt that the nearest caption lacks.")


class RefusedPair(Model):
    """A pair that was found and that the operator's policy left out."""

    id: str = Field(description="Id of the pair.")
    reason: str = Field(description="Why it is not allowed.")


class Usage(Model):
    """What a request used."""

    input_tokens: int = Field(0, description="Sum of the input's tokens.")
    output_tokens: int = Field(0, description="Number of squares of 16 x 16 pixels of the images.")
    total_tokens: int = Field(0, description="Sum of the tokens of input and output.")
    steps: int | None = Field(None, description="Sampling steps of all stages, summed over the images.")
    evaluations: int | None = Field(None, description="Evaluations of the networks for those steps.")


class Image(Model):
    """A finished image. Its file contains its provenance."""

    index: int = Field(0, description="Index of the image, from 0.")
    seed: int | None = Field(None, description="Seed of the image; the same seed draws it again.")
    content: bytes = Field(repr=False, description="Content of the image file.")
    prompt: str = Field("", description="Prompt of the image.")

    @property
    def media_type(self) -> str:
        """Media type of the file, from its first bytes."""
        if self.content.startswith(b"\xff\xd8"):
            return "image/jpeg"
        return "image/webp" if self.content[8:12] == b"WEBP" else "image/png"

    def save(self, path: str | Path) -> Path:
        """Write the file and return its path.

        Args:
            path: A file, or an existing folder, in which the file gets a name from prompt and seed. A file of that name
                is kept, and the new one gets a number.
        """
        path = Path(path)
        if path.is_dir():
            path = self._free_path(path)
        path.write_bytes(self.content)
        return path

    def _free_path(self, folder: Path) -> Path:
        words = re.sub(r"\W+", "-", self.prompt.lower()).strip("-")[:60] or "image"
        name = words if self.seed is None else f"{words}-{self.seed}"
        suffix = _SUFFIXES[self.media_type]
        path, number = folder / f"{name}{suffix}", 2
        while path.exists():
            path, number = folder / f"{name}-{number}{suffix}", number + 1
        return path


class Grounding(Model):
    """The neighbors that images are grounded on, and how they were found."""

    neighbors: tuple[Neighbor, ...] = Field((), description="Neighbors, best first.")
    text_only: bool = Field(False, description="Whether the images are drawn from the prompt alone.")
    nothing_found: NothingFound | None = Field(None, description="Reason if there are no neighbors.")
    refused: tuple[RefusedPair, ...] = Field(
        (), description="Pairs that were found and that the operator's policy left out."
    )
    revision: str = Field("", description="Revision of the knowledge base; empty if nothing was retrieved.")
    cascade: str = Field("", description="Name of the cascade that draws the images.")
    seed: int | None = Field(None, description="Seed of the first image.")


class Generation(Grounding):
    """Images, and the neighbors that they are grounded on."""

    images: tuple[Image, ...] = Field(description="Images, in the order of their seeds.")
    usage: Usage | None = Field(None, description="What the request used.")


class Progress(Model):
    """The event that a step is done."""

    index: int = Field(description="Index of the image that is being drawn, from 0.")
    stage: int = Field(description="Index of the stage in the cascade, from 0.")
    size: int = Field(description="Width and height of the stage's image in pixels.")
    step: int = Field(description="Number of steps of the stage that are done, from 1.")
    steps: int = Field(description="Number of steps of the stage.")


class Retrieved(Grounding):
    """The event that the neighbors are found."""


class Preview(Model):
    """The event of a preview of the unfinished first image."""

    number: int = Field(0, description="Number of the preview, from 0.")
    content: bytes = Field(repr=False, description="Content of a PNG file.")


class Done(Model):
    """The event of a finished image. The stream has one for each image."""

    image: Image = Field(description="The image.")
    usage: Usage | None = Field(None, description="What the request used up to this image.")


Event = Retrieved | Progress | Preview | Done
"""An event of a stream of images."""


class JobImage(Model):
    """A finished image of a job, without its file."""

    index: int = Field(description="Index of the image, from 0.")
    seed: int | None = Field(None, description="Seed of the image.")
    url: str | None = Field(None, description="Link to the image file; unset over gRPC.")

    @model_validator(mode="before")
    @classmethod
    def _index_of_link(cls, fields: Any) -> Any:
        """Take the index from the end of the link, where the answer does not state it."""
        if isinstance(fields, dict) and "index" not in fields and isinstance(fields.get("url"), str):
            return fields | {"index": fields["url"].rpartition("/")[2]}
        return fields


class Job(Model):
    """A request that is drawn in the background."""

    id: str = Field(description="Id of the job.")
    status: JobStatus = Field(description="State of the job.")
    created_at: int = Field(description="Time of creation, in seconds since 1970.")
    started_at: int | None = Field(None, description="Time at which drawing began, in seconds since 1970.")
    finished_at: int | None = Field(None, description="Time at which the job ended, in seconds since 1970.")
    expires_at: int | None = Field(None, description="Time at which the job is deleted, in seconds since 1970.")
    position: int | None = Field(None, description="Place in the queue, from 1 for the next job.")
    request: dict[str, Any] = Field({}, description="Fields of the request, with its seed.")
    progress: Progress | None = Field(None, description="Last finished step, if any.")
    neighbors: tuple[Neighbor, ...] = Field((), description="Neighbors, best first, once they are found.")
    images: tuple[JobImage, ...] = Field(
        (), validation_alias=AliasChoices("data", "images"), description="Finished images, in the order of their seeds."
    )
    usage: Usage | None = Field(None, description="What the job used, once it is completed.")
    error: dict[str, Any] | None = Field(None, description="Why the job failed: `message`, `type`, `param`, `code`.")

    @property
    def ended(self) -> bool:
        """Whether the job is completed, failed or cancelled."""
        return self.status in ENDED


class JobPage(Model):
    """Some of the jobs, newest first."""

    jobs: tuple[Job, ...] = Field(validation_alias=AliasChoices("data", "jobs"), description="Jobs, newest first.")
    has_more: bool = Field(False, description="Whether there are older jobs than the last of these.")


class JobStatusChanged(Model):
    """The event that a job has another state."""

    status: JobStatus = Field(description="State of the job.")
    error: dict[str, Any] | None = Field(None, description="Why the job failed.")

    @property
    def ended(self) -> bool:
        """Whether the job is completed, failed or cancelled."""
        return self.status in ENDED


class JobImageDone(Model):
    """The event that an image of a job is finished."""

    image: JobImage = Field(description="The image, without its file.")


JobEvent = JobStatusChanged | Retrieved | Progress | Preview | JobImageDone
"""An event of a job."""


class File(Model):
    """An uploaded image that references can name by its id."""

    id: str = Field(description="Id of the file.")
    size: int = Field(validation_alias=AliasChoices("bytes", "size"), description="Size of the file in bytes.")
    created_at: int = Field(description="Time of the upload, in seconds since 1970.")
    expires_at: int | None = Field(None, description="Time of expiry, in seconds since 1970.")
    filename: str = Field("", description="Name of the file.")


class Cascade(Model):
    """A loaded cascade."""

    id: str = Field(description="Name of the cascade.")
    sizes: tuple[str, ...] = Field((), description="Supported sizes of images.")
    default_k: int | None = Field(None, description="Number of neighbors if a request does not set k.")
    maximum_k: int | None = Field(None, description="Maximum number of neighbors of a request.")


class Signature(Model):
    """The signature of a file."""

    status: Literal["trusted", "untrusted", "invalid", "absent"] = Field(description="State of the signature.")
    signer: str | None = Field(None, description="Name in the signer's certificate.")
    time: str | None = Field(None, description="Time of signing.")
    reason: str | None = Field(None, description="Why the signature is not trusted or not valid.")


class Verified(Model):
    """The origin of a file, as far as the service knows."""

    prompt: str = Field(description="Prompt of the image.")
    seed: int | None = Field(None, description="Seed of the image; None if its model has no seeds.")
    model: str = Field(description="Name of the cascade.")
    created: int | None = Field(None, description="Time of drawing, in seconds since 1970, if the file contains it.")
    request: dict[str, Any] = Field({}, description="Body of a request that draws the image again.")
    neighbors: tuple[Neighbor, ...] = Field((), description="Neighbors that the image is grounded on.")


class Watermark(Model):
    """The watermark in the pixels of an image."""

    id: str | None = Field(None, description="Id of the image, 8 hexadecimal digits; None if it cannot be read.")
    score: float = Field(description="How clear the mark is, in standard deviations of unmarked images.")


class SoftBinding(Model):
    """A watermark or fingerprint that a manifest states."""

    algorithm: str = Field(description="Name of the algorithm.")
    value: str = Field(description="Id or fingerprint, as the algorithm writes it.")


class Verification(Model):
    """The outcome of verifying a file."""

    signature: Signature = Field(description="Signature of the file.")
    tampered: bool | None = Field(None, description="Whether the file was changed; None without a signature.")
    generation: Verified | None = Field(None, description="Origin of the image, or None if it is unknown.")
    watermark: Watermark | None = Field(None, description="Watermark of the image, if it was found.")
    soft_bindings: tuple[SoftBinding, ...] = Field(
        (), description="Watermarks and fingerprints that the manifest of a file with a valid signature states."
    )
    found_by: str | None = Field(
        None, description="Where the origin was found: `metadata`, or in the log by `watermark` or `fingerprint`."
    )
