"""A retriever that fails as a test says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_common.errors import ReimagenError
from reimagen_common.grpc_server import GrpcServer


class Faulty(retrieval_pb2_grpc.RetrievalServicer):
    """A retriever that answers with each of the given errors in turn, then with one neighbor."""

    def __init__(self, *errors: ReimagenError) -> None:
        self.errors = list(errors)
        self.asked = 0
        self.last = retrieval_pb2.SearchRequest()

    def BatchSearch(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the generator does not ask for it")

    def AddPairs(self, requests: Any, context: grpc.ServicerContext) -> NoReturn:
        self.BatchSearch(requests, context)

    GetPair = ListPairs = Describe = DeletePairs = BatchSearch

    def Search(
        self, request: retrieval_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.SearchResponse:
        self.asked += 1
        self.last = request
        if self.errors:
            raise self.errors.pop(0)
        pair = retrieval_pb2.Pair(id="1", caption=request.query, image=b"x" * 5_000_000, license="MIT")
        return retrieval_pb2.SearchResponse(
            neighbors=[retrieval_pb2.Neighbor(pair=pair, rank=1, score=2.5)] * request.k, revision="g1"
        )


@contextmanager
def serving(servicer: Faulty, address: str = "127.0.0.1:0") -> Iterator[str]:
    server = GrpcServer(address=address, workers=2, max_message_bytes=64 * 1024 * 1024)
    server.add(
        lambda grpc_server: retrieval_pb2_grpc.add_RetrievalServicer_to_server(servicer, grpc_server),
        "reimagen.v1.Retrieval",
    )
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop(0)
