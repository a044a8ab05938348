"""A retriever that does nothing: with our server's framework, it answers each search with the same message from a file.

    python -m benchmarks.shared.empty_service FILE

It prints its port, and serves until its input ends.
"""

import sys
from pathlib import Path

import grpc

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1 import retrieval_pb2_grpc
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.logs import configure_logging
from reimagen_retriever.api.grpc import MAXIMUM_MESSAGE_BYTES, SERVICE_NAME, RetrievalServicer


class EmptyServicer(RetrievalServicer):
    """A servicer that answers every search with one message."""

    def __init__(self, response: pb.SearchResponse) -> None:
        self._response = response

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        """Return the message."""
        return self._response


def main(file: Path) -> None:
    """Serve until the input ends."""
    configure_logging("empty", "info")
    servicer = EmptyServicer(pb.SearchResponse.FromString(file.read_bytes()))
    server = GrpcServer(address="127.0.0.1:0", workers=8, max_message_bytes=MAXIMUM_MESSAGE_BYTES)
    server.add(
        lambda grpc_server: retrieval_pb2_grpc.add_RetrievalServicer_to_server(servicer, grpc_server), SERVICE_NAME
    )
    server.start()
    print(server.port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
