"""SourceFilters of what a source offers, by LAION's measures and the image's size."""

from pydantic import BaseModel, ConfigDict, Field

from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.pair import RejectedError, SourcePair


class SourceFilters(BaseModel):
    """What a pair must be to be taken in. One that does not say is left out too, and counted apart."""

    model_config = ConfigDict(frozen=True)

    max_unsafe: float | None = Field(default=None, ge=0, le=1, description="Most probability of being unsafe.")
    max_watermark: float | None = Field(default=None, ge=0, le=1, description="Most probability of a watermark.")
    min_similarity: float | None = Field(default=None, ge=-1, le=1, description="Least cosine of image and text.")
    min_size: int = Field(default=0, ge=0, description="Least width and height, in pixels.")

    def check(self, pair: SourcePair) -> None:
        """Checks what the source says.

        Raises:
            RejectedError: naming the filter.
        """
        _check("unsafe", pair.unsafe, most=self.max_unsafe)
        _check("watermark", pair.watermark, most=self.max_watermark)
        _check("similarity", pair.similarity, least=self.min_similarity)

    def check_image(self, facts: ImageFacts) -> None:
        """Checks the image itself, whatever the source says of it.

        Raises:
            RejectedError: it is too small.
        """
        if min(facts.width, facts.height) < self.min_size:
            raise RejectedError("filter: too small", f"{facts.width} x {facts.height}")


def _check(name: str, value: float | None, *, least: float | None = None, most: float | None = None) -> None:
    if least is None and most is None:
        return
    if value is None:
        raise RejectedError(f"filter: {name} unknown")
    if (least is not None and value < least) or (most is not None and value > most):
        raise RejectedError(f"filter: {name}", f"{value:g}")
