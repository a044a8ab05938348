"""The bodies of requests that change the knowledge base, and of their answers."""

import hashlib
from collections.abc import Iterator, Sequence

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import SourcePair


class PairsForm(BaseModel):
    """Pairs that are sent: the first image belongs to the first text, and so on."""

    model_config = ConfigDict(extra="forbid")

    image: list[UploadFile] = Field(min_length=1, description="Image files, at most 4 MiB and 64 megapixels each.")
    caption: list[str] = Field(min_length=1, description="What each image shows.")
    id: list[str] = Field([], description="The id of each pair; none: they are named after their images' SHA-256.")
    source: list[str] = Field([""], description="Where each image came from, or one for all.")
    license: list[str] = Field([""], description="SPDX identifier or name for each image, or one for all.")

    def check(self) -> None:
        """Refuses what does not fit together.

        Raises:
            InvalidArgument: naming the field.
        """
        count = len(self.image)
        for name, fitting in (
            ("caption", {count}),
            ("id", {0, count}),
            ("source", {1, count}),
            ("license", {1, count}),
        ):
            given = len(getattr(self, name))
            if given not in fitting:
                raise InvalidArgument(f"there are {count:,} images, got {given:,} of these", field=name)

    def ids(self) -> list[str]:
        """The id of each pair."""
        return self.id or [hashlib.sha256(image.file.read()).hexdigest()[:32] for image in self.image]

    def entries(self, ids: Sequence[str]) -> Iterator[SourcePair]:
        """The pairs, each image read only when it is its turn."""
        for number, (identifier, image) in enumerate(zip(ids, self.image, strict=True)):
            image.file.seek(0)
            yield SourcePair(
                location=f"image[{number}]",
                id=identifier,
                caption=self.caption[number],
                image=image.file.read(),
                source=self.source[number % len(self.source)],
                license=self.license[number % len(self.license)],
            )


class Rejection(BaseModel):
    """A pair that could not be taken, and why."""

    location: str = Field(description="Which of those that were sent.", examples=["image[0]"])
    reason: str
    detail: str


class AddResponse(BaseModel):
    """What became of the pairs that were sent."""

    ids: list[str] = Field(description="Of all pairs that were sent, in their order.")
    added: int
    updated: int = Field(description="Took the place of the pair that had their id.")
    unchanged: int = Field(description="Were there already, just so.")
    rejected: list[Rejection]
    revision: str = Field(description="A revision of the knowledge base that has all this in it.")


class DeleteResponse(BaseModel):
    """What was removed."""

    removed: int
    revision: str = Field(description="A revision of the knowledge base that lacks it.")
