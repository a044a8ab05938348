"""The gRPC client of the retriever: it searches neighbors for a prompt."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_common import request_id, tracing
from reimagen_common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ReimagenError,
    Unauthenticated,
    Unavailable,
    from_rpc_error,
)
from reimagen_common.grpc_client import NO_CREDENTIALS, Credentials
from reimagen_generator.generation.request import Relevance

_MESSAGE_BYTES: Final = 64 * 1024 * 1024
# Maximum share of a request's remaining time for a search. The rest is reserved for drawing.
_MAXIMUM_SHARE: Final = 0.25
_MAXIMUM_SECONDS: Final = 10.0
_HEALTH_SECONDS: Final = 0.5
# If the address stands for several retrievers, each search and each retry goes to the next one that is available.
# gRPC itself varies each backoff by ±20 %, and stops retrying at the deadline.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": "reimagen.v1.Retrieval"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
_RELEVANCES: Final = {
    None: retrieval_pb2.RELEVANCE_UNSPECIFIED,
    "any": retrieval_pb2.RELEVANCE_ANY,
    "entity": retrieval_pb2.RELEVANCE_ENTITY,
    "phrase": retrieval_pb2.RELEVANCE_PHRASE,
}
_METHODS: Final = {
    "bm25": retrieval_pb2.METHOD_BM25,
    "dense": retrieval_pb2.METHOD_DENSE,
    "hybrid": retrieval_pb2.METHOD_HYBRID,
}


@dataclass(frozen=True)
class Neighbor:
    """A pair that the images are grounded on, or a reference of the request, which has only image and caption."""

    image: bytes
    caption: str
    id: str = ""
    media_type: str = ""
    width: int = 0
    height: int = 0
    source: str = ""
    license: str = ""
    unsafe: float | None = None
    """Probability that the image is not safe for work, if the pair's source says so."""
    rank: int = 0
    score: float = 0.0
    explanation: retrieval_pb2.Explanation | None = None
    """The explanation, if the request sets `explain`."""
    weight: float = 1.0
    """Factor of its share of the attention to the neighbors; 0 if it is ignored."""
    cut_out: bool = False
    """Whether `image` is the object of the image, cut out, on a plain ground."""
    warning: str = ""
    """Why nothing was cut out, if that was requested."""


@dataclass(frozen=True)
class RefusedPair:
    """A pair that the search found and the operator's policy left out."""

    id: str
    reason: str


@dataclass(frozen=True)
class Neighbors:
    """The neighbors that the images are grounded on, best first, and the revision of the knowledge base."""

    neighbors: Sequence[Neighbor] = ()
    revision: str = ""
    nothing_found: retrieval_pb2.NothingFound | None = None
    """The reason if there are no neighbors. Its `field` is a field of a request for images, such as `retrieval.k`."""
    refused: Sequence[RefusedPair] = ()
    """Pairs that the operator's policy left out."""

    @property
    def text_only(self) -> bool:
        """Whether the images are drawn from the prompt alone: there is no neighbor, or all have weight 0."""
        return not any(neighbor.weight for neighbor in self.neighbors)


@dataclass(frozen=True)
class Filters:
    """Conditions on the pairs that may be neighbors, see `Filters` in retrieval.proto. The default allows all pairs."""

    licenses: Sequence[str] = ()
    sources: Sequence[str] = ()
    minimum_side: int = 0
    safe_only: bool = False
    exclude_ids: Sequence[str] = ()


NO_FILTER: Final = Filters()


class RetrieverClient:
    """Connections to all replicas of a retriever, shared by all threads. A broken connection is rebuilt."""

    def __init__(self, address: str, credentials: Credentials = NO_CREDENTIALS) -> None:
        """Create the client without connecting.

        Args:
            address: `host:port`, where the host name may resolve to several machines, or `ipv4:host:port,host:port`.
            credentials: The API key and the certificates.

        Raises:
            InvalidArgument: A certificate's file cannot be read.
        """
        self.address = address
        self._credentials = credentials
        self._channel = credentials.open_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", _MESSAGE_BYTES),
                ("grpc.service_config", _SERVICE_CONFIG),
                # By default gRPC waits up to two minutes before it reconnects to a retriever that has restarted.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 2_000),
            ],
        )
        self.stub = retrieval_pb2_grpc.RetrievalStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        """Close the connections. Running searches fail."""
        self._channel.close()

    def search(
        self,
        query: str,
        *,
        k: int,
        method: str,
        per_entity: bool = False,
        minimum_score: float | None = None,
        relevance: Relevance | None = None,
        explain: bool = False,
        filters: Filters = NO_FILTER,
        remaining: float,
    ) -> Neighbors:
        """Return the k pairs that match the query best, or, with `per_entity`, pairs for each of its entities in turn.

        The search takes at most a quarter of the request's `remaining` seconds, and at most 10 seconds.

        Raises:
            Unavailable: The retriever does not answer.
            InvalidArgument: The retriever rejects the search, such as a dense search in a base without vectors.
            ReimagenError: The retriever answers with another error.
        """
        request = retrieval_pb2.SearchRequest(
            query=query,
            k=k,
            method=_METHODS[method],
            per_entity=per_entity,
            minimum_score=minimum_score,
            relevance=_RELEVANCES[relevance],
            explain=explain,
            filters=retrieval_pb2.Filters(**asdict(filters)),
        )
        timeout = min(_MAXIMUM_SECONDS, _MAXIMUM_SHARE * remaining)
        with self._calling("search"):
            response = self.stub.Search(request, timeout=timeout, metadata=self.metadata())
        return Neighbors(
            neighbors=tuple(
                replace(
                    _neighbor(found.pair),
                    rank=found.rank,
                    score=found.score,
                    explanation=found.explanation if found.HasField("explanation") else None,
                )
                for found in response.neighbors
            ),
            revision=response.revision,
            nothing_found=_with_request_field(response.nothing_found) if response.HasField("nothing_found") else None,
        )

    def pairs(self, ids: Sequence[str], *, remaining: float) -> dict[str, Neighbor]:
        """Return the pairs with these ids, by id, without rank and score. An id that no pair has is left out.

        The pairs are fetched at the same time, in at most a quarter of the request's `remaining` seconds, and at most
        10 seconds.

        Raises:
            Unavailable: The retriever does not answer.
            ReimagenError: The retriever answers with another error.
        """
        timeout, metadata = min(_MAXIMUM_SECONDS, _MAXIMUM_SHARE * remaining), self.metadata()
        calls = {
            pair_id: self.stub.GetPair.future(
                retrieval_pb2.GetPairRequest(id=pair_id), timeout=timeout, metadata=metadata
            )
            for pair_id in dict.fromkeys(ids)
        }
        found = {}
        for pair_id, call in calls.items():
            with suppress(NotFound), self._calling("get pair"):
                found[pair_id] = _neighbor(call.result())
        return found

    def pair_image(self, pair_id: str) -> tuple[bytes, str]:
        """Return the image file of a pair of the knowledge base, and its media type.

        Raises:
            NotFound: No pair of the knowledge base has the id.
            Unavailable: The retriever does not answer.
        """
        request = retrieval_pb2.GetPairRequest(id=pair_id)
        with self._calling("get pair"):
            pair = self.stub.GetPair(request, timeout=_MAXIMUM_SECONDS, metadata=self.metadata())
        return pair.image, pair.media_type

    def degraded_reason(self) -> str | None:
        """Return why the retriever does not answer, or None if it does. Takes at most half a second."""
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:  # It answers, although without a health service.
                return None
            return f"the retriever at {self.address} does not answer: only requests without retrieval are served"
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return f"the retriever at {self.address} is starting or stopping"
        return None

    @contextmanager
    def _calling(self, method: str) -> Iterator[None]:
        with tracing.calling(method):
            try:
                yield
            except grpc.RpcError as error:
                raise self._explain(error) from error

    def _explain(self, error: grpc.RpcError) -> ReimagenError:
        explained = from_rpc_error(error)
        if isinstance(explained, Unavailable | DeadlineExceeded):
            return Unavailable(
                f"the retriever at {self.address} does not answer; start it with `reimagen-retriever serve KB_DIR`, "
                "or set retrieval.k = 0, or send images as references",
                retry_after=explained.retry_after or 5,
            )
        if isinstance(explained, Unauthenticated | PermissionDenied):
            # The key is the operator's, so the client's request is not at fault.
            return ReimagenError(
                f"the retriever at {self.address} refuses this service: {explained.message}; set retriever_api_key to "
                "a key with the right 'read'"
            )
        if isinstance(explained, InvalidArgument) and explained.field:
            message = explained.message.removeprefix(f"{explained.field}: ")
            return InvalidArgument(message, field=_request_field(explained.field))
        return explained

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the gRPC metadata with the API key, and the ids of request and trace for the retriever's log."""
        return (*self._credentials.metadata(), *request_id.metadata(), *tracing.metadata())


def _neighbor(pair: retrieval_pb2.Pair) -> Neighbor:
    return Neighbor(
        id=pair.id,
        caption=pair.caption,
        image=pair.image,
        media_type=pair.media_type,
        width=pair.width,
        height=pair.height,
        source=pair.source,
        license=pair.license,
        unsafe=pair.unsafe if pair.HasField("unsafe") else None,
    )


def _with_request_field(nothing: retrieval_pb2.NothingFound) -> retrieval_pb2.NothingFound:
    nothing.field = _request_field(nothing.field) if nothing.field else ""
    return nothing


def _request_field(field: str) -> str:
    """Return the field of a request for images that corresponds to a field of a search."""
    return "prompt" if field == "query" else f"retrieval.{field}"
