"""One process that serves both faces from one engine."""

import logging
import socket
import threading
from contextlib import ExitStack

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

log = logging.getLogger(__name__)


class HttpServer:
    """Uvicorn on a thread of its own, so that the main thread stays free for signals."""

    def __init__(self, app: FastAPI, address: str) -> None:
        """Bind `host:port`, which fails at once if it is taken; `port` tells the port that was bound."""
        host, _, port = address.rpartition(":")
        self._config = uvicorn.Config(app, host=host.strip("[]"), port=int(port), log_config=None, access_log=False)
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


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun."""
    jax.config.update("jax_compilation_cache_dir", str(settings.compile_cache))  # type: ignore[no-untyped-call]
    # By default only what took a second to compile is kept; a stage is many small functions.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # type: ignore[no-untyped-call]
    cascade = Cascade.load(settings.weights)
    engine = Engine(cascade, capacity=settings.queue_capacity)
    with ExitStack() as stack:
        generator = Generator(engine, stack.enter_context(Retriever(settings.retriever)))
        grpc_server = GrpcServer(address=settings.grpc, workers=engine.places + 4, max_message_bytes=MESSAGE_BYTES)
        servicer = GenerationServicer(generator, deadline=settings.deadline)
        grpc_server.add(
            lambda server: generation_pb2_grpc.add_GenerationServicer_to_server(servicer, server), SERVICE_NAME
        )
        http_server = HttpServer(create_app(generator, deadline=settings.deadline), settings.http)
        # The servers answer while the cascade is compiled, and say that they are not ready.
        grpc_server.start()
        http_server.start()
        log.info("listening", extra={"grpc_port": grpc_server.port, "http_port": http_server.port})
        engine.start()
        grpc_server.set_serving(True)
        log.info(
            "ready",
            extra={"cascade": cascade.config.name, "grpc_port": grpc_server.port, "http_port": http_server.port},
        )

        def stop() -> None:
            grpc_server.set_serving(False)
            engine.stop(settings.grace)
            grpc_server.stop(settings.grace)
            http_server.stop()

        run_until_signal(stop)
