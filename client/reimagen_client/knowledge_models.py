"""The results of requests about the knowledge base."""

from typing import Any

from pydantic import Field

from reimagen_client.models import Model, NothingFound


class Pair(Model):
    """A pair of the knowledge base."""

    id: str = Field(description="Id of the pair.")
    caption: str = Field(description="Caption of the image.")
    url: str = Field(description="Link to the image.")
    media_type: str = Field(description="Media type of the image.")
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    source: str = Field("", description="Origin of the image; empty when unknown.")
    license: str = Field("", description="SPDX identifier or name of the license; empty when unknown.")
    unsafe: float | None = Field(
        None, description="Probability that the image is not safe for work, if its source says so."
    )
    rank: int | None = Field(None, description="Rank in a search, from 1 for the best.")
    score: float | None = Field(None, description="Score of a search.")
    explanation: dict[str, Any] | None = Field(None, description="Explanation, if `explain` was set.")
    refused: str | None = Field(
        None,
        description="Why the operator's policy leaves the pair out of drawings, if it does and `check_policy` was set.",
    )


class Found(Model):
    """The answer to a search of the knowledge base."""

    neighbors: tuple[Pair, ...] = Field(description="Neighbors, best first.")
    revision: str = Field(description="Revision of the knowledge base that was searched.")
    nothing_found: NothingFound | None = Field(None, description="Reason if there are no neighbors.")


class Rejection(Model):
    """A pair that could not be added, and the reason."""

    location: str = Field(description="Location of the pair in the request.")
    reason: str = Field(description="Short phrase, such as `broken image`.")
    detail: str = Field("", description="Details of the reason; may be empty.")


class Added(Model):
    """The outcome of adding pairs."""

    ids: tuple[str, ...] = Field(description="Ids of all pairs in the request, in their order.")
    added: int = Field(description="Number of pairs with a new id.")
    updated: int = Field(description="Number of pairs that replaced a pair with the same id.")
    unchanged: int = Field(description="Number of pairs that the base already contained unchanged.")
    rejected: tuple[Rejection, ...] = Field((), description="Pairs that could not be added.")
    revision: str = Field(description="Revision of the knowledge base that includes these changes.")


class JobUse(Model):
    """A job that is grounded on a pair."""

    id: str = Field(description="Id of the job.")
    owner: str = Field("", description="Id of the key that the job belongs to; empty where no keys are required.")
    images: int = Field(0, description="Number of its finished images.")


class PairUses(Model):
    """The images that the service keeps and that are grounded on a pair."""

    images: int = Field(description="Number of images.")
    jobs: tuple[JobUse, ...] = Field((), description="Jobs of all keys, newest first.")


class Removed(Model):
    """The outcome of removing a pair."""

    revision: str = Field(description="Revision of the knowledge base without the pair.")
    uses: PairUses | None = Field(None, description="Kept images that are grounded on the pair, if they are known.")
