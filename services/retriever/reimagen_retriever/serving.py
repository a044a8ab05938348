"""The service's process, from its settings to its end."""

import logging

from reimagen.v1 import retrieval_pb2_grpc
from reimagen_common.errors import InvalidArgument
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.logs import configure_logging
from reimagen_common.processes import run_until_signal
from reimagen_retriever.api.grpc import MAXIMUM_MESSAGE_BYTES, SERVICE_NAME, RetrievalServicer
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.index.jvm import start_jvm
from reimagen_retriever.service import Retriever
from reimagen_retriever.settings import Settings

_logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; health says SERVING once the base is open and warm.

    Raises:
        InvalidArgument: the address or the Redis URL is of no use.
        NotFound: there is no finished knowledge base in the folder.
    """
    configure_logging("retriever", settings.log_level)
    try:
        cache = AnswerCache(settings.redis_url, settings.cache_seconds)
    except ValueError as error:
        raise InvalidArgument(str(error), field="redis_url") from error
    retriever = Retriever(settings.knowledge_base, cache, settings.minimum_overlap)
    try:
        server = GrpcServer(address=settings.address, workers=settings.workers, max_message_bytes=MAXIMUM_MESSAGE_BYTES)
    except RuntimeError as error:
        raise InvalidArgument(f"cannot listen on {settings.address}; is it taken?", field="address") from error
    servicer = RetrievalServicer(retriever)
    server.add(
        lambda grpc_server: retrieval_pb2_grpc.add_RetrievalServicer_to_server(servicer, grpc_server), SERVICE_NAME
    )
    server.start()
    try:
        start_jvm(settings.heap_megabytes)
        address = f"{settings.address.rpartition(':')[0]}:{server.port}"
        retriever.open(address)
        server.set_serving(True)
        _logger.info("ready", extra={"address": address, "redis": settings.redis_url or "none"})
        run_until_signal(lambda: server.stop(settings.stop_seconds))
    finally:
        server.stop(0)
        retriever.close()
