"""Search and change the retriever's knowledge base on behalf of a client."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_common import tracing
from reimagen_common.errors import ContentPolicyViolation, DeadlineExceeded, Unavailable, from_rpc_error
from reimagen_generator.generation.policy import Policy
from reimagen_generator.generation.retriever_client import RetrieverClient

_READING_SECONDS: Final = 10.0
_WRITING_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 5.0


class Knowledge:
    """The knowledge base of a retriever."""

    def __init__(self, retriever: RetrieverClient, policy: Policy) -> None:
        """Use the connections of a client, and add only pairs that the policy allows."""
        self._policy = policy
        self._address = retriever.address
        self._metadata = retriever.metadata
        self._stub: retrieval_pb2_grpc.RetrievalStub = retriever.stub

    def search(
        self, request: retrieval_pb2.SearchRequest, *, check_policy: bool = False
    ) -> tuple[retrieval_pb2.SearchResponse, list[str | None]]:
        """Return the pairs that match a query best, and why the policy refuses each of them, None for allowed ones.

        Args:
            request: The search.
            check_policy: Whether to ask the policy. If not, no pair is refused.

        Raises:
            InvalidArgument: The retriever rejects the search.
            Unavailable: The retriever does not answer, or the policy cannot be asked.
        """
        if check_policy and self._policy.reads_images:
            request.omit_images = False
        with self._calling("search"):
            answer: retrieval_pb2.SearchResponse = self._stub.Search(request, **self._options(_READING_SECONDS))
        if not check_policy:
            return answer, [None] * len(answer.neighbors)
        pairs = [neighbor.pair for neighbor in answer.neighbors]
        try:
            return answer, self._policy.reasons(pairs, remaining=_READING_SECONDS)
        except Unavailable as error:
            raise Unavailable(error.message, field="check_policy", retry_after=error.retry_after) from error

    def pair(self, pair_id: str) -> retrieval_pb2.Pair:
        """Return a pair.

        Raises:
            NotFound: No pair has the id.
            Unavailable: The retriever does not answer.
        """
        request = retrieval_pb2.GetPairRequest(id=pair_id)
        with self._calling("get pair"):
            pair: retrieval_pb2.Pair = self._stub.GetPair(request, **self._options(_READING_SECONDS))
        return pair

    def list(self, limit: int, *, after: str = "", at_random: bool = False) -> retrieval_pb2.ListPairsResponse:
        """Return pairs without their images, in the byte order of their ids or at random.

        Raises:
            InvalidArgument: The retriever rejects the request.
            Unavailable: The retriever does not answer.
        """
        request = retrieval_pb2.ListPairsRequest(limit=limit, after=after, random=at_random)
        with self._calling("list pairs"):
            answer: retrieval_pb2.ListPairsResponse = self._stub.ListPairs(request, **self._options(_READING_SECONDS))
        return answer

    def add(self, pairs: Sequence[retrieval_pb2.AddPairsRequest]) -> retrieval_pb2.AddPairsResponse:
        """Add pairs, and replace those with the same ids. When it returns, they are on disk and found by searches.

        Raises:
            InvalidArgument: The knowledge base does not accept pairs.
            ContentPolicyViolation: The policy refuses all pairs.
            Unavailable: The retriever does not answer or cannot write now, or the policy cannot be asked.
        """
        reasons = self._policy.reasons(pairs, remaining=_WRITING_SECONDS)
        refused = [
            retrieval_pb2.Rejection(location=_location(index), reason="not allowed", detail=f"the pair {reason}")
            for index, reason in enumerate(reasons)
            if reason is not None
        ]
        if len(refused) == len(pairs):
            raise ContentPolicyViolation(reasons[0] or "", field="image.0")
        sent = [index for index, reason in enumerate(reasons) if reason is None]
        with self._calling("add pairs"):
            answer: retrieval_pb2.AddPairsResponse = self._stub.AddPairs(
                (pairs[index] for index in sent), **self._options(_WRITING_SECONDS)
            )
        # The retriever counts only the pairs that were sent to it.
        original = {_location(number): _location(index) for number, index in enumerate(sent)}
        for rejection in answer.rejections:
            rejection.location = original.get(rejection.location, rejection.location)
        answer.rejections.extend(refused)
        return answer

    def delete(self, ids: Sequence[str]) -> retrieval_pb2.DeletePairsResponse:
        """Delete pairs. When it returns, no search finds them.

        Raises:
            Unavailable: The retriever does not answer, or cannot write now.
        """
        request = retrieval_pb2.DeletePairsRequest(ids=ids)
        with self._calling("delete pairs"):
            answer: retrieval_pb2.DeletePairsResponse = self._stub.DeletePairs(
                request, **self._options(_WRITING_SECONDS)
            )
        return answer

    @contextmanager
    def _calling(self, method: str) -> Iterator[None]:
        with tracing.calling(method):
            try:
                yield
            except grpc.RpcError as error:
                explained = from_rpc_error(error)
                if isinstance(explained, Unavailable | DeadlineExceeded):
                    raise Unavailable(
                        f"the retriever at {self._address} does not answer or cannot do this now: {explained.message}",
                        retry_after=explained.retry_after or _RETRY_SECONDS,
                    ) from error
                raise explained from error

    def _options(self, seconds: float) -> dict[str, Any]:
        return {"timeout": seconds, "metadata": self._metadata()}


def _location(index: int) -> str:
    """Return the location of a pair in a request, as the retriever names it."""
    return f"pairs[{index}]"
