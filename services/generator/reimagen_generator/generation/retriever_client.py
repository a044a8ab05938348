"""The client of the retriever: a prompt in, its neighbors out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_common import request_id, tracing
from reimagen_common.errors import DeadlineExceeded, InvalidArgument, ReimagenError, Unavailable, from_rpc_error
from reimagen_generator.generation.request import Relevance

_MESSAGE_BYTES: Final = 64 * 1024 * 1024
# The rest of a call's time belongs to the drawing.
_SHARE: Final = 0.25
_LONGEST_SECONDS: Final = 10.0
_HEALTH_SECONDS: Final = 0.5
# Where the address stands for several retrievers, each search goes to the next one that is there, and so does a retry.
# gRPC spreads each pause by ±20 % itself, and stops retrying at the deadline.
_SERVICE: Final = json.dumps(
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
    """A pair that an image is grounded on, or a reference that the caller gave, which has but an image and a text."""

    image: bytes
    caption: str
    id: str = ""
    media_type: str = ""
    width: int = 0
    height: int = 0
    source: str = ""
    license: str = ""
    rank: int = 0
    score: float = 0.0
    explanation: retrieval_pb2.Explanation | None = None
    """Why it was found, where that was asked for."""


@dataclass(frozen=True)
class Neighbors:
    """What images are grounded on, best first, and the generation of the knowledge base that it came from."""

    neighbors: Sequence[Neighbor] = ()
    revision: str = ""
    nothing_found: retrieval_pb2.NothingFound | None = None
    """Why there are no neighbors; its field is named as a request for images has it."""

    @property
    def text_only(self) -> bool:
        """Whether there is nothing but the prompt to draw from."""
        return not self.neighbors


@dataclass(frozen=True)
class Filters:
    """Which pairs may be neighbors; all by default. See the retriever's contract."""

    licenses: Sequence[str] = ()
    sources: Sequence[str] = ()
    minimum_side: int = 0
    safe_only: bool = False
    exclude_ids: Sequence[str] = ()


NO_FILTER: Final = Filters()


class RetrieverClient:
    """A connection to each replica of a retriever, shared by all threads; it is made anew when it breaks."""

    def __init__(self, address: str) -> None:
        """Take the address; nothing is sent yet.

        Args:
            address: `host:port`, where the host's name may stand for several machines, or `ipv4:host:port,host:port`.
        """
        self._address = address
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", _MESSAGE_BYTES),
                ("grpc.service_config", _SERVICE),
                # gRPC would wait up to two minutes before it notices that a retriever is back.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 2_000),
            ],
        )
        self._stub = retrieval_pb2_grpc.RetrievalStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        """Hang up; searches under way fail."""
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
        """Find the k pairs that match the query best, or in turn each thing that it names.

        It takes a share of the call's `remaining` seconds at most.

        Raises:
            Unavailable: the retriever does not answer.
            InvalidArgument: it cannot search so, such as by meaning in a knowledge base without vectors.
            ReimagenError: it answered with another error of its own.
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
        timeout = min(_LONGEST_SECONDS, _SHARE * remaining)
        with self._calling("search"):
            response = self._stub.Search(request, timeout=timeout, metadata=_metadata())
        return Neighbors(
            neighbors=tuple(
                Neighbor(
                    id=found.pair.id,
                    caption=found.pair.caption,
                    image=found.pair.image,
                    media_type=found.pair.media_type,
                    width=found.pair.width,
                    height=found.pair.height,
                    source=found.pair.source,
                    license=found.pair.license,
                    rank=found.rank,
                    score=found.score,
                    explanation=found.explanation if found.HasField("explanation") else None,
                )
                for found in response.neighbors
            ),
            revision=response.revision,
            nothing_found=_in_our_terms(response.nothing_found) if response.HasField("nothing_found") else None,
        )

    def pair_image(self, pair_id: str) -> tuple[bytes, str]:
        """Get the image file of one pair of the knowledge base, and its media type.

        Raises:
            NotFound: the knowledge base has no such pair.
            Unavailable: the retriever does not answer.
        """
        request = retrieval_pb2.GetPairRequest(id=pair_id)
        with self._calling("get pair"):
            pair = self._stub.GetPair(request, timeout=_LONGEST_SECONDS, metadata=_metadata())
        return pair.image, pair.media_type

    def degraded_reason(self) -> str | None:
        """Say what keeps the retriever from answering, within half a second; None where all is well."""
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:  # It answers, which is what was asked.
                return None
            return f"the retriever at {self._address} does not answer: only requests that retrieve nothing are served"
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return f"the retriever at {self._address} is starting or stopping"
        return None

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        with tracing.calling(what):
            try:
                yield
            except grpc.RpcError as error:
                raise self._explain(error) from error

    def _explain(self, error: grpc.RpcError) -> ReimagenError:
        explained = from_rpc_error(error)
        if isinstance(explained, Unavailable | DeadlineExceeded):
            return Unavailable(
                f"the retriever at {self._address} does not answer; start it with `reimagen-retriever serve KB_DIR`, "
                "or send retrieval.k = 0 or references",
                retry_after=explained.retry_after or 5,
            )
        if isinstance(explained, InvalidArgument) and explained.field:
            message = explained.message.removeprefix(f"{explained.field}: ")
            return InvalidArgument(message, field=_our_field(explained.field))
        return explained


def _in_our_terms(nothing: retrieval_pb2.NothingFound) -> retrieval_pb2.NothingFound:
    nothing.field = _our_field(nothing.field) if nothing.field else ""
    return nothing


def _our_field(field: str) -> str:
    """Return the field of a request for images that a field of a search comes from."""
    return "prompt" if field == "query" else f"retrieval.{field}"


def _metadata() -> tuple[tuple[str, str | bytes], ...]:
    """Tells the retriever which request it works for."""
    return (*request_id.metadata(), *tracing.metadata())
