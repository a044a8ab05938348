"""The bodies of the routes of the knowledge base."""

from typing import Annotated, Any, Final, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from reimagen.v1 import retrieval_pb2
from reimagen_common.models import WHOLE
from reimagen_generator.api.http.form_schema import without_null
from reimagen_generator.api.http.job_schema import StatusWord
from reimagen_generator.api.http.schema import ExplanationData, NothingFoundData
from reimagen_generator.generation.messages import METHODS, RELEVANCES, number_of
from reimagen_generator.generation.request import NEIGHBORS, Prompt, Retrieval

PAIRS: Final = 16
LISTED: Final = 100
ID_BYTES: Final = 512
LISTED_JOBS: Final = 1_000

PairId = Annotated[str, Path(alias="id", min_length=1, max_length=ID_BYTES, description="Id of the pair.")]


class KnowledgeSearch(Retrieval):
    """A search of the knowledge base."""

    query: Prompt = Field(description="Free text, usually a prompt: 1 to 1,000 characters.", examples=["a red panda"])
    k: Annotated[int, Field(strict=True, ge=1, le=NEIGHBORS), WHOLE] | None = Field(
        None, description="Maximum number of neighbors, 1 to 16. Unset: 2.", examples=[2]
    )
    keep_duplicates: bool = Field(
        False, strict=True, description="Return all near-duplicates of an image, not only the best one."
    )
    check_policy: bool = Field(
        False,
        strict=True,
        description="Check the pairs against the operator's policy, and state in `refused` why it would leave a pair "
        "out of a drawing.",
    )

    def message(self) -> retrieval_pb2.SearchRequest:
        """Return the search as a message for the retriever."""
        return retrieval_pb2.SearchRequest(
            query=self.query,
            k=self.k or 0,
            method=number_of(METHODS, self.method),
            omit_images=True,
            minimum_score=self.minimum_score,
            per_entity=self.per_entity,
            filters=retrieval_pb2.Filters(
                licenses=self.licenses,
                sources=self.sources,
                minimum_side=self.minimum_side,
                safe_only=self.safe_only,
                exclude_ids=self.exclude_ids,
                keep_duplicates=self.keep_duplicates,
            ),
            explain=self.explain,
            relevance=number_of(RELEVANCES, self.relevance),
        )


class PairData(BaseModel):
    """A pair of the knowledge base."""

    id: str = Field(description="Id of the pair.")
    caption: str = Field(description="Caption of the image.")
    url: str = Field(description="Link to the image.")
    media_type: str = Field(description="Media type of the image.")
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    source: str = Field(description="Origin of the image; empty when unknown.")
    license: str = Field(description="SPDX identifier or name of the license; empty when unknown.")
    unsafe: float | None = Field(
        None, description="Probability that the image is not safe for work, if its source says so."
    )


class FoundPairData(PairData):
    """A pair that a search found."""

    rank: int = Field(description="Rank, from 1 for the best.")
    score: float = Field(description="Score of the method. Only scores of the same answer are comparable.")
    explanation: ExplanationData | None = Field(None, description="Explanation, if `explain` is set.")
    refused: str | None = Field(
        None,
        description="Why the operator's policy leaves the pair out of drawings, if it does and `check_policy` is set.",
    )


class KnowledgeAnswer(BaseModel):
    """The answer to a search."""

    neighbors: list[FoundPairData] = Field(description="Neighbors, best first; fewer than k if no more are relevant.")
    revision: str = Field(description="Revision of the knowledge base that was searched.")
    cached: bool = Field(description="Whether the answer came from the cache.")
    nothing_found: NothingFoundData | None = Field(None, description="Reason if there are no neighbors.")


class PairList(BaseModel):
    """Some of the pairs, in the shape of OpenAI's lists."""

    object: Literal["list"] = "list"
    data: list[PairData] = Field(description="Pairs, in the byte order of their ids unless `order` is `random`.")
    first_id: str | None = Field(None, description="Id of the first pair.")
    last_id: str | None = Field(None, description="Id of the last pair; pass it as `after` for the next ones.")
    has_more: bool = Field(description="Whether there are pairs after the last one.")
    total: int = Field(description="Number of pairs in the knowledge base.")
    revision: str = Field(description="Revision of the knowledge base that was listed.")


class PairFields(BaseModel):
    """The text fields of a form of pairs."""

    model_config = {"extra": "forbid"}

    caption: tuple[str, ...] = Field((), description="Caption of each image.")
    id: tuple[str, ...] = Field((), description="Id of each pair. Without ids, they are made from the images' SHA-256.")
    source: tuple[str, ...] = Field(("",), description="Origin of each image, or one for all.")
    license: tuple[str, ...] = Field(("",), description="SPDX identifier or name of each license, or one for all.")


class RejectionData(BaseModel):
    """A pair that could not be added, and the reason."""

    location: str = Field(description="Location of the pair in the request.", examples=["image.0"])
    reason: str = Field(description="Short phrase, such as `broken image`.")
    detail: str = Field(description="Details of the reason; may be empty.")


class AddedPairs(BaseModel):
    """The outcome of adding pairs."""

    ids: list[str] = Field(description="Ids of all pairs in the request, in their order.")
    added: int = Field(description="Number of pairs with a new id.")
    updated: int = Field(description="Number of pairs that replaced a pair with the same id.")
    unchanged: int = Field(description="Number of pairs that the base already contained unchanged.")
    rejected: list[RejectionData] = Field(description="Pairs that could not be added.")
    revision: str = Field(description="Revision of the knowledge base that includes these changes.")


class JobUse(BaseModel):
    """A job that is grounded on the pair. Its request is shown to its owner only."""

    id: str = Field(description="Id of the job.")
    owner: str = Field(description="Id of the key that the job belongs to; empty where no keys are required.")
    status: StatusWord = Field(description="State of the job.")
    images: int = Field(description="Number of its finished images.")
    created_at: int = Field(description="Time of creation, in seconds since 1970.")


class FileUse(BaseModel):
    """A linked image that is grounded on the pair."""

    name: str = Field(description="Name of the file under `/v1/images/files`.")
    owner: str = Field(description="Id of the key that the file belongs to; empty where no keys are required.")


class PairUses(BaseModel):
    """The kept images that are grounded on a pair."""

    images: int = Field(description="Number of images of the jobs and files below.")
    jobs: list[JobUse] = Field(description="Jobs with images or still to be drawn, newest first.")
    files: list[FileUse] = Field(description="Linked images, newest first.")
    has_more: bool = Field(
        description=f"Whether there are more than {LISTED_JOBS:,} jobs, of which the newest are listed."
    )


class DeletedPair(BaseModel):
    """The outcome of deleting a pair."""

    removed: int = Field(description="Number of deleted pairs, 1.")
    revision: str = Field(description="Revision of the knowledge base without the pair.")
    uses: PairUses | None = Field(
        None, description="Kept images that are grounded on the pair. Unset: the jobs cannot be read now."
    )


def _parameters() -> list[dict[str, Any]]:
    schema = KnowledgeSearch.model_json_schema()
    parameters = []
    for name, field in schema["properties"].items():
        of_value = without_null(field)
        description = of_value.pop("description")
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema["required"],
                "description": description,
                "schema": of_value,
            }
        )
    return parameters


SEARCH_PARAMETERS: Final = _parameters()
"""The query parameters of GET /v1/knowledge/search."""

PAIRS_FORM: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "title": "PairsForm",
                "properties": {
                    "image": {
                        "type": "array",
                        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                        "minItems": 1,
                        "maxItems": PAIRS,
                        "description": "Image files, at most 4 MiB and 64 megapixels each.",
                    },
                    **PairFields.model_json_schema()["properties"],
                },
                "required": ["image", "caption"],
                "additionalProperties": False,
            }
        }
    },
}
"""The request body of POST /v1/knowledge/pairs."""
