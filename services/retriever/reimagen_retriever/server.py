"""The server process: gRPC and HTTP servers over one knowledge base."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from fastapi import FastAPI

from reimagen.v1 import retrieval_pb2_grpc
from reimagen_common.addresses import hosts_of
from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.logs import configure_logging
from reimagen_common.operations import Health, operations_router
from reimagen_common.processes import run_until_signal
from reimagen_common.tracing import start_tracing, stop_tracing
from reimagen_retriever.api.grpc import MAXIMUM_MESSAGE_BYTES, SERVICE_NAME, RetrievalServicer
from reimagen_retriever.api.http import create_app
from reimagen_retriever.api.rights import CALLS
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.index.jvm import start_jvm
from reimagen_retriever.knowledge_base.manifest import ImageStore
from reimagen_retriever.knowledge_base.mirror import mirror, mirror_folder
from reimagen_retriever.knowledge_base.sources.files import is_address
from reimagen_retriever.process_group import ProcessGroup
from reimagen_retriever.service import RetrievalService
from reimagen_retriever.settings import Settings

_logger = logging.getLogger(__name__)


class RetrieverServer:
    """The gRPC and HTTP servers of one knowledge base.

    Args:
        settings: The settings. Port 0 picks a free port.
        group: The process group that shares the ports, including this process. None for a single process.

    Raises:
        InvalidArgument: The Redis URL is invalid, a file of keys or TLS cannot be used, or the server cannot listen on
            an address.
    """

    def __init__(self, settings: Settings, group: ProcessGroup | None = None) -> None:
        self._settings = settings
        self._group = group
        self._guard, self._tls = settings.open_guard(settings.redis_url), settings.open_tls()
        self._state: Literal["starting", "ready", "stopping"] = "starting"
        try:
            cache = AnswerCache(settings.redis_url, settings.cache_seconds)
        except ValueError as error:
            raise InvalidArgument(str(error), field="redis_url") from error
        self._folder = Path(settings.knowledge_base)
        self._store: ImageStore | None = None
        if is_address(settings.knowledge_base):
            self._folder = mirror_folder(settings.knowledge_base, settings.local_folder)
            self._store = ImageStore(
                address=settings.knowledge_base,
                cache_megabytes=settings.image_cache_megabytes,
                seconds=settings.store_seconds,
            )
        self._retriever = RetrievalService(
            self._folder, cache, settings.relevance, settings.minimum_cosine, settings.encoder
        )
        self._grpc: GrpcServer | None = None
        self._https: list[HttpServer] = []
        self.addresses: dict[str, str] = {}
        """The addresses that the server listens on, by setting name."""

    def start(self) -> None:
        """Open the base and serve it. Return when the server accepts searches.

        A single process listens at once and answers that it is starting. A process of a group listens on the shared
        ports only when it is ready, because until then requests can go to the ready processes of the group.
        """
        if self._group:
            app = FastAPI()
            app.include_router(operations_router(self.health))
            self._start(HttpServer(app, self._group.listen()))
        else:
            self._listen()
        if self._store:
            mirror(self._store, self._folder)
        start_jvm(self._settings.heap_megabytes)
        self._retriever.open(self.addresses.get("grpc", self._settings.grpc))
        if self._group:
            self._listen()
        assert self._grpc
        self._grpc.set_serving(True)
        self._state = "ready"
        _logger.info("ready", extra={**self.addresses, "redis": self._settings.redis_url or "none"})

    def health(self) -> Health:
        """Return the health of this process."""
        if self._state != "ready":
            return Health(status=self._state)
        try:
            degraded_reasons = self._retriever.degraded_reasons()
        except Unavailable:  # The base was closed in the meantime.
            return Health(status="stopping")
        return Health(status="degraded" if degraded_reasons else "ready", reasons=degraded_reasons)

    def stop(self, grace: float) -> None:
        """Refuse new requests, give those in progress `grace` seconds, then close. A second call has no effect."""
        self._state = "stopping"
        if self._grpc:
            self._grpc.stop(grace)
        while self._https:
            self._https.pop().stop()
        self._retriever.close()

    def _listen(self) -> None:
        settings = self._settings
        shared = self._group is not None
        with listening("grpc", settings.grpc):
            self._grpc = GrpcServer(
                address=settings.grpc,
                workers=settings.concurrent_calls,
                max_message_bytes=MAXIMUM_MESSAGE_BYTES,
                guard=self._guard,
                rights=CALLS,
                tls=self._tls,
                reuse_port=shared,
            )
        self.addresses["grpc"] = with_port(settings.grpc, self._grpc.port)
        servicer = RetrievalServicer(self._retriever)
        self._grpc.add(
            lambda server: retrieval_pb2_grpc.add_RetrievalServicer_to_server(servicer, server), SERVICE_NAME
        )
        if settings.http:
            with listening("http", settings.http):
                opened = listen(settings.http, reuse_port=shared)
            self.addresses["http"] = with_port(settings.http, opened.getsockname()[1])
            if self._group:
                operations = operations_router(self._group.health, self._group.metrics)
            else:
                operations = operations_router(self.health)
            app = create_app(
                self._retriever,
                operations,
                self._guard,
                workers=settings.concurrent_calls,
                body_seconds=settings.body_seconds,
                base_url=settings.base_url,
                cors_origins=settings.cors_origins,
            )
            allowed = hosts_of(settings.http, settings.base_url, settings.allowed_hosts)
            self._start(HttpServer(app, opened, allowed_hosts=allowed, tls=self._tls))
        self._grpc.start()

    def _start(self, server: HttpServer) -> None:
        self._https.append(server)
        server.start()


def with_port(address: str, port: int) -> str:
    """Return the address with another port."""
    return f"{address.rpartition(':')[0]}:{port}"


@contextmanager
def listening(setting: str, address: str) -> Iterator[None]:
    """Turn errors of listening on an address into errors that name its setting.

    Raises:
        InvalidArgument: The server cannot listen on the address.
    """
    try:
        yield
    except (OSError, RuntimeError, OverflowError) as error:
        raise InvalidArgument(f"cannot listen on {address}; is the port in use?", field=setting) from error


def serve(settings: Settings) -> None:
    """Serve in one process until SIGTERM or SIGINT. Health is SERVING once the base is open and warm.

    Raises:
        InvalidArgument: An address or the Redis URL is invalid.
        NotFound: The folder holds no complete knowledge base.
    """
    configure_logging("retriever", settings.log_level)
    start_tracing("reimagen-retriever")
    service = RetrieverServer(settings)
    try:
        service.start()
        run_until_signal(lambda: service.stop(settings.stop_seconds))
    finally:
        service.stop(0)
        stop_tracing()
