"""Filters of a source's pairs by LAION's measures and the image's size."""

from pydantic import BaseModel, ConfigDict, Field

from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.pair import RejectedError, SourcePair


class SourceFilters(BaseModel):
    """The limits that a pair must meet. A pair without the measure is left out too, and counted separately."""

    model_config = ConfigDict(frozen=True)

    max_unsafe: float | None = Field(default=None, ge=0, le=1, description="Maximum probability of being unsafe.")
    max_watermark: float | None = Field(default=None, ge=0, le=1, description="Maximum probability of a watermark.")
    min_similarity: float | None = Field(
        default=None, ge=-1, le=1, description="Minimum cosine similarity of image and caption."
    )
    min_size: int = Field(default=0, ge=0, description="Minimum width and height in pixels.")

    def check(self, pair: SourcePair) -> None:
        """Check the measures that the source gives.

        Raises:
            RejectedError: A measure is missing or out of range; the reason names the filter.
        """
        _check("unsafe", pair.unsafe, maximum=self.max_unsafe)
        _check("watermark", pair.watermark, maximum=self.max_watermark)
        _check("similarity", pair.similarity, minimum=self.min_similarity)

    def check_image(self, facts: ImageFacts) -> None:
        """Check the size of the decoded image.

        Raises:
            RejectedError: The image is too small.
        """
        if min(facts.width, facts.height) < self.min_size:
            raise RejectedError("filter: too small", f"{facts.width} x {facts.height}")


def _check(name: str, value: float | None, *, minimum: float | None = None, maximum: float | None = None) -> None:
    if minimum is None and maximum is None:
        return
    if value is None:
        raise RejectedError(f"filter: {name} unknown")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise RejectedError(f"filter: {name}", f"{value:g}")
