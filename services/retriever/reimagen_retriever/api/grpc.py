"""The gRPC API of the retriever."""

from collections.abc import Iterator

import grpc

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1 import retrieval_pb2_grpc
from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.knowledge_base.manifest import Vectors
from reimagen_retriever.knowledge_base.pair import SourcePair
from reimagen_retriever.nothing_found import NothingFound
from reimagen_retriever.results import Answer, FoundPair
from reimagen_retriever.search import DEFAULT_K, Defaults, Explanation, Method, Search
from reimagen_retriever.service import MAXIMUM_ANSWER_BYTES, RetrievalService

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Retrieval"].full_name
# The images of a full answer plus space for their metadata.
MAXIMUM_MESSAGE_BYTES = MAXIMUM_ANSWER_BYTES + 4 * 1024 * 1024

_METHODS: dict[int, Method] = {
    pb.METHOD_UNSPECIFIED: "bm25",
    pb.METHOD_BM25: "bm25",
    pb.METHOD_DENSE: "dense",
    pb.METHOD_HYBRID: "hybrid",
}
_RELEVANCES: dict[int, Relevance | None] = {
    pb.RELEVANCE_UNSPECIFIED: None,
    pb.RELEVANCE_ANY: "any",
    pb.RELEVANCE_ENTITY: "entity",
    pb.RELEVANCE_PHRASE: "phrase",
}
_RELEVANCE_NUMBERS = {"any": pb.RELEVANCE_ANY, "entity": pb.RELEVANCE_ENTITY, "phrase": pb.RELEVANCE_PHRASE}
_CACHE_STATES = {"up": pb.CACHE_STATE_UP, "down": pb.CACHE_STATE_DOWN, "off": pb.CACHE_STATE_OFF}


class RetrievalServicer(retrieval_pb2_grpc.RetrievalServicer):
    """The servicer of `reimagen.v1.Retrieval`."""

    def __init__(self, retriever: RetrievalService) -> None:
        self._retriever = retriever

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        """Return the best neighbors of a query."""
        return _response(self._retriever.search(_search(request)))

    def BatchSearch(self, request: pb.BatchSearchRequest, context: grpc.ServicerContext) -> pb.BatchSearchResponse:
        """Run several searches and return their answers in the same order."""
        searches = [_search(search, f"searches[{number}].") for number, search in enumerate(request.searches)]
        return pb.BatchSearchResponse(responses=map(_response, self._retriever.batch_search(searches)))

    def GetPair(self, request: pb.GetPairRequest, context: grpc.ServicerContext) -> pb.Pair:
        """Return a pair by its id."""
        return _pair(self._retriever.get_pair(request.id))

    def ListPairs(self, request: pb.ListPairsRequest, context: grpc.ServicerContext) -> pb.ListPairsResponse:
        """List pairs without their images."""
        listing = self._retriever.list_pairs(request.limit, after=request.after, at_random=request.random)
        return pb.ListPairsResponse(
            pairs=[_pair(FoundPair(pair, b"")) for pair in listing.pairs],
            has_more=listing.has_more,
            total=listing.total,
            revision=listing.revision,
        )

    def AddPairs(self, requests: Iterator[pb.AddPairsRequest], context: grpc.ServicerContext) -> pb.AddPairsResponse:
        """Add pairs and replace those with the same ids."""
        added = self._retriever.add_pairs(_entries(requests))
        rejections = (
            pb.Rejection(location=each.location, reason=each.reason, detail=_text(each.detail))
            for each in added.rejected
        )
        return pb.AddPairsResponse(
            added=added.added,
            updated=added.updated,
            unchanged=added.unchanged,
            rejected=added.rejected_count,
            rejections=rejections,
            revision=added.revision,
        )

    def DeletePairs(self, request: pb.DeletePairsRequest, context: grpc.ServicerContext) -> pb.DeletePairsResponse:
        """Remove pairs by their ids."""
        deleted = self._retriever.delete_pairs(request.ids)
        return pb.DeletePairsResponse(removed=deleted.removed, unknown=deleted.unknown, revision=deleted.revision)

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        """Describe the served knowledge base."""
        description = self._retriever.describe()
        manifest = description.manifest
        return pb.DescribeResponse(
            revision=manifest.revision,
            format_version=manifest.format_version,
            pairs=manifest.pairs,
            licenses=manifest.licenses,
            relevance=_RELEVANCE_NUMBERS[description.defaults.relevance],
            cache=_CACHE_STATES[description.cache],
            vectors=_vectors(manifest.vectors, description.defaults) if manifest.vectors else None,
        )


def _search(request: pb.SearchRequest, within: str = "") -> Search:
    if request.method not in _METHODS:
        raise InvalidArgument(f"unknown method {request.method}", field=f"{within}method")
    if request.relevance not in _RELEVANCES:
        raise InvalidArgument(f"unknown relevance {request.relevance}", field=f"{within}relevance")
    return Search(
        query=request.query,
        k=request.k or DEFAULT_K,
        method=_METHODS[request.method],
        omit_images=request.omit_images,
        minimum_score=request.minimum_score if request.HasField("minimum_score") else None,
        relevance=_RELEVANCES[request.relevance],
        per_entity=request.per_entity,
        filters=Filters(
            licenses=tuple(request.filters.licenses),
            sources=tuple(request.filters.sources),
            minimum_side=request.filters.minimum_side,
            safe_only=request.filters.safe_only if request.filters.HasField("safe_only") else True,
            exclude_ids=tuple(request.filters.exclude_ids),
            keep_duplicates=request.filters.keep_duplicates,
        ),
        explain=request.explain,
    )


def _entries(requests: Iterator[pb.AddPairsRequest]) -> Iterator[SourcePair]:
    try:
        for number, request in enumerate(requests):
            yield SourcePair(
                location=f"pairs[{number}]",
                id=request.id,
                caption=request.caption,
                image=request.image,
                source=request.source,
                license=request.license,
                unsafe=request.unsafe if request.HasField("unsafe") else None,
            )
    except grpc.RpcError as error:
        raise Unavailable("the stream of pairs ended early") from error


def _text(text: str) -> str:
    """Return the text with lone surrogates escaped, because messages cannot contain them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _response(answer: Answer) -> pb.SearchResponse:
    neighbors = (
        pb.Neighbor(
            pair=_pair(found),
            rank=rank,
            score=found.score,
            explanation=_explanation(found.explanation) if found.explanation else None,
        )
        for rank, found in enumerate(answer.neighbors, start=1)
    )
    return pb.SearchResponse(
        neighbors=neighbors,
        revision=answer.revision,
        cached=answer.cached,
        nothing_found=_nothing_found(answer.nothing_found) if answer.nothing_found else None,
    )


def _nothing_found(nothing: NothingFound) -> pb.NothingFound:
    return pb.NothingFound(
        reason=nothing.reason,
        field=nothing.field,
        nearest=_pair(FoundPair(nothing.nearest.pair, b"")) if nothing.nearest else None,
        lacking=nothing.lacking,
    )


def _vectors(vectors: Vectors, defaults: Defaults) -> pb.Vectors:
    return pb.Vectors(
        of=vectors.of,
        kind=vectors.kind,
        dimension=vectors.dimension,
        encoder_digest=vectors.encoder_digest,
        minimum_cosine=vectors.minimum_cosine if defaults.cosine is None else defaults.cosine,
    )


def _explanation(explanation: Explanation) -> pb.Explanation:
    hit = explanation.hit
    return pb.Explanation(
        terms=[
            pb.Explanation.Term(term=term.term, times=term.times, idf=term.idf, tf=term.tf, score=term.score)
            for term in explanation.terms
        ],
        named=explanation.named,
        cosine=hit.cosine,
        bm25_rank=hit.bm25_rank,
        dense_rank=hit.dense_rank,
    )


def _pair(found: FoundPair) -> pb.Pair:
    pair = found.pair
    return pb.Pair(
        id=pair.id,
        caption=pair.caption,
        image=found.image,
        media_type=pair.media_type,
        width=pair.width,
        height=pair.height,
        source=pair.source,
        license=pair.license,
        unsafe=pair.unsafe,
    )
