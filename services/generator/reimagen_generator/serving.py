"""One process that serves both faces from one engine."""

import logging
import socket
import threading
from typing import Final

import jax
import uvicorn
from fastapi import FastAPI

from reimagen.v1 import generation_pb2_grpc
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.processes import run_until_signal
from reimagen_generator.api.grpc import MESSAGE_BYTES, SERVICE_NAME, GenerationServicer
from reimagen_generator.api.http.app import create_app
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.generation import Generator
from reimagen_generator.retrieval import Retriever
from reimagen_generator.settings import Settings

# Beside those that wait for the engine: to validate, to refuse, to describe.
_SPARE_THREADS: Final = 4
# For the last bytes of answers whose drawing has ended.
_CLOSING_SECONDS: Final = 5

log = logging.getLogger(__name__)


class HttpServer:
    """Uvicorn on a thread of its own, so that the main thread stays free for signals."""

    def __init__(self, app: FastAPI, address: str) -> None:
        """Bind `host:port`, which fails at once if it is taken; `port` tells the port that was bound."""
        host, _, port = address.rpartition(":")
        self._config = uvicorn.Config(
            app,
            host=host.strip("[]"),
            port=int(port),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
        )
        self._socket: socket.socket = self._config.bind_socket()
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http")

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what has been asked, then close."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


class Service:
    """Both faces over one cascade. Port 0 in the settings takes a free port; see `grpc_port` and `http_port`."""

    def __init__(self, cascade: Cascade, settings: Settings) -> None:
        """Bind both addresses, which fails at once if one is taken."""
        self._grace = settings.grace
        self._retriever = Retriever(settings.retriever)
        self.engine = Engine(cascade, capacity=settings.queue_capacity)
        generator = Generator(self.engine, self._retriever)
        servicer = GenerationServicer(generator, deadline=settings.deadline)
        self._grpc = GrpcServer(
            address=settings.grpc, workers=self.engine.places + _SPARE_THREADS, max_message_bytes=MESSAGE_BYTES
        )
        self._grpc.add(
            lambda server: generation_pb2_grpc.add_GenerationServicer_to_server(servicer, server), SERVICE_NAME
        )
        self._http = HttpServer(create_app(generator, deadline=settings.deadline), settings.http)
        self.grpc_port = self._grpc.port
        self.http_port = self._http.port

    def start(self) -> None:
        """Answer at once that the service is starting; return when the cascade is compiled and requests are welcome."""
        self._grpc.start()
        self._http.start()
        log.info("listening", extra={"grpc_port": self.grpc_port, "http_port": self.http_port})
        self.engine.start()
        self._grpc.set_serving(True)
        log.info("ready", extra={"cascade": self.engine.cascade.config.name})

    def stop(self) -> None:
        """Refuse new requests, give those under way the settings' grace, then close."""
        self._grpc.set_serving(False)
        self.engine.stop(self._grace)
        self._grpc.stop(
            _CLOSING_SECONDS,
        )
        self._http.stop()
        self._retriever.close()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun."""
    jax.config.update("jax_compilation_cache_dir", str(settings.compile_cache))  # type: ignore[no-untyped-call]
    # By default only what took a second to compile is kept; a stage is many small functions.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # type: ignore[no-untyped-call]
    service = Service(Cascade.load(settings.weights), settings)
    service.start()
    run_until_signal(service.stop)
