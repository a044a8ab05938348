"""The request and response bodies of changes to the knowledge base."""

import hashlib
from collections.abc import Iterator, Sequence

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import SourcePair


class PairsForm(BaseModel):
    """Pairs to add. The first image belongs to the first caption, and so on."""

    model_config = ConfigDict(extra="forbid")

    image: list[UploadFile] = Field(min_length=1, description="Image files, at most 4 MiB and 64 megapixels each.")
    caption: list[str] = Field(min_length=1, description="Caption of each image.")
    id: list[str] = Field([], description="Id of each pair. Without ids, they are made from the images' SHA-256.")
    source: list[str] = Field([""], description="Origin of each image, or one for all.")
    license: list[str] = Field([""], description="SPDX identifier or name of each license, or one for all.")

    def check(self) -> None:
        """Check that the lists have matching lengths.

        Raises:
            InvalidArgument: A list has a wrong length. The error names the field.
        """
        count = len(self.image)
        for name, allowed in (
            ("caption", {count}),
            ("id", {0, count}),
            ("source", {1, count}),
            ("license", {1, count}),
        ):
            given = len(getattr(self, name))
            if given not in allowed:
                lengths = " or ".join(f"{length:,}" for length in sorted(allowed))
                raise InvalidArgument(
                    f"must be given {lengths} times, with {count:,} images; got {given:,}", field=name
                )

    def ids(self) -> list[str]:
        """Return the id of each pair."""
        return self.id or [hashlib.sha256(image.file.read()).hexdigest()[:32] for image in self.image]

    def entries(self, ids: Sequence[str]) -> Iterator[SourcePair]:
        """Yield the pairs, reading one image at a time."""
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
    """A pair that could not be added, and the reason."""

    location: str = Field(description="Location of the pair in the request.", examples=["image[0]"])
    reason: str
    detail: str


class AddResponse(BaseModel):
    """The outcome of adding pairs."""

    ids: list[str] = Field(description="Ids of all pairs in the request, in their order.")
    added: int
    updated: int = Field(description="Number of pairs that replaced a pair with the same id.")
    unchanged: int = Field(description="Number of pairs that the base already contained unchanged.")
    rejected: list[Rejection]
    revision: str = Field(description="Revision of the knowledge base that includes all of these changes.")


class DeleteResponse(BaseModel):
    """The outcome of removing a pair."""

    removed: int
    revision: str = Field(description="Revision of the knowledge base without the pair.")
