"""Convert the events of a request for images to the models of the REST API."""

import base64
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import quote

from fastapi import Request

from reimagen.v1 import generation_pb2, retrieval_pb2
from reimagen_common.http_hosts import link
from reimagen_generator.api.http.files import FileStore
from reimagen_generator.api.http.schema import (
    ExplanationData,
    Grounding,
    ImageData,
    ImagesRequest,
    NeighborData,
    NothingFoundData,
    RefusedData,
    TermData,
    TokenDetails,
    UsageData,
)
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.request import Quality
from reimagen_generator.generation.retriever_client import Neighbor, Neighbors, RefusedPair
from reimagen_generator.generation.service import Accepted, Event, GenerationService, Image
from reimagen_generator.generation.usage import Usage, UsageMeter

_QUALITIES: Final[Mapping[Quality, Literal["low", "medium", "high"]]] = {
    "auto": "medium",
    "low": "low",
    "medium": "medium",
    "standard": "medium",
    "high": "high",
    "hd": "high",
}


EventName = Literal["neighbors", "progress", "partial_image", "completed"]


class Answer:
    """A converter of the events of one request to the models of the REST API."""

    def __init__(
        self,
        generator: GenerationService,
        files: FileStore,
        body: ImagesRequest,
        request: Request,
        base_url: str | None,
    ) -> None:
        """Create the converter.

        Args:
            generator: The service that draws.
            files: The store of linked images.
            body: The request for images.
            request: The HTTP request, whose host links begin with.
            base_url: The prefix of links. None uses the host of the request.
        """
        self.body = body
        self.meter = UsageMeter(body.prompt, first_size=generator.model.sizes[0])
        self.size = 0
        self._pairs: frozenset[str] = frozenset()
        self._cascade = generator.model.name
        self._files = files
        self._link = partial(link, request, base_url)

    @property
    def quality(self) -> Literal["low", "medium", "high"]:
        """The quality in OpenAI's current words."""
        return _QUALITIES[self.body.quality]

    def event_type(self, name: EventName) -> Any:
        """Return the type of a server-sent event, such as `image_generation.completed`."""
        return f"{self.body.operation}.{name}"

    async def grounding(self, events: AsyncGenerator[Event, None]) -> Grounding:
        """Return the grounding from the first two events."""
        accepted, neighbors = await anext(events), await anext(events)
        assert isinstance(accepted, Accepted)
        assert isinstance(neighbors, Neighbors)
        self.meter.add(neighbors)
        self.size = accepted.size
        self._pairs = frozenset(one.id for one in neighbors.neighbors if one.id and one.weight)
        return Grounding(
            neighbors=[self._neighbor(neighbor) for neighbor in neighbors.neighbors],
            text_only=neighbors.text_only,
            nothing_found=nothing_found_data(neighbors.nothing_found) if neighbors.nothing_found else None,
            refused=refused_data(neighbors.refused),
            revision=neighbors.revision,
            cascade=self._cascade,
            seed=accepted.seed,
        )

    def image(self, drawn: Image) -> ImageData:
        """Return a finished image, or a link to it."""
        if self.body.response_format == "b64_json":
            return ImageData(b64_json=base64_of(drawn.image), seed=drawn.seed)
        name = self._files.add(drawn.image, drawn.media_type, owner=current_owner(), pairs=self._pairs)
        return ImageData(url=self._link("file", name=name), seed=drawn.seed)

    def usage(self) -> UsageData:
        """Return what the request used so far."""
        return usage_data(self.meter.usage)

    def _neighbor(self, neighbor: Neighbor) -> NeighborData:
        cut = cut_out_data(cut_out=neighbor.cut_out, warning=neighbor.warning)
        if not neighbor.id:
            image = {"b64_json": base64_of(neighbor.image)} if neighbor.cut_out else {}
            return NeighborData(caption=neighbor.caption, **cut, **image)
        return NeighborData(
            **cut,
            id=neighbor.id,
            caption=neighbor.caption,
            source=neighbor.source,
            license=neighbor.license,
            unsafe=neighbor.unsafe,
            rank=neighbor.rank or None,
            score=neighbor.score if neighbor.rank else None,
            explanation=explanation_data(neighbor.explanation) if neighbor.explanation else None,
            **self._image_of(neighbor),
        )

    def _image_of(self, neighbor: Neighbor) -> dict[str, str]:
        if neighbor.cut_out or self.body.response_format == "b64_json":
            return {"b64_json": base64_of(neighbor.image)}
        return {"url": self._link("pair_image", id=quote(neighbor.id))}


def cut_out_data(*, cut_out: bool, warning: str) -> dict[str, Any]:
    """Return the fields of a neighbor that say what became of its cut-out, if one was requested."""
    return {"cut_out": cut_out or None, "warning": warning or None}


def usage_data(usage: Usage) -> UsageData:
    """Return a usage in the shape that OpenAI's clients parse."""
    input_tokens = usage.text_tokens + usage.input_image_tokens
    return UsageData(
        input_tokens=input_tokens,
        input_tokens_details=TokenDetails(text_tokens=usage.text_tokens, image_tokens=usage.input_image_tokens),
        output_tokens=usage.output_image_tokens,
        output_tokens_details=TokenDetails(text_tokens=0, image_tokens=usage.output_image_tokens),
        total_tokens=input_tokens + usage.output_image_tokens,
        steps=usage.steps,
        evaluations=usage.evaluations,
    )


def base64_of(data: bytes) -> str:
    """Return base64."""
    return base64.b64encode(data).decode("ascii")


def explanation_data(explanation: retrieval_pb2.Explanation) -> ExplanationData:
    """Return an explanation of the retriever as a model of the REST API."""
    return ExplanationData(
        named=list(explanation.named),
        terms=[
            TermData(term=term.term, times=term.times, idf=term.idf, tf=term.tf, score=term.score)
            for term in explanation.terms
        ],
        cosine=explanation.cosine if explanation.HasField("cosine") else None,
        bm25_rank=explanation.bm25_rank if explanation.HasField("bm25_rank") else None,
        dense_rank=explanation.dense_rank if explanation.HasField("dense_rank") else None,
    )


def refused_data(pairs: Iterable[RefusedPair | generation_pb2.GenerateEvent.RefusedPair]) -> list[RefusedData] | None:
    """Return the pairs that the policy left out as models of the REST API, or None if there are none."""
    return [RefusedData(id=pair.id, reason=pair.reason) for pair in pairs] or None


def nothing_found_data(nothing: retrieval_pb2.NothingFound) -> NothingFoundData:
    """Return the reason why nothing was found as a model of the REST API."""
    return NothingFoundData(
        reason=nothing.reason,
        field=nothing.field or None,
        nearest=nothing.nearest.caption or None,
        nearest_id=nothing.nearest.id or None,
        lacking=list(nothing.lacking),
    )
