"""A gRPC server with health, reflection, error statuses, overload protection, logs, metrics and traces."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from reimagen_common import metrics, request_id, tracing
from reimagen_common.access import caller as callers
from reimagen_common.access.caller import ANONYMOUS, Caller
from reimagen_common.access.calls import CallCheck
from reimagen_common.access.guard import Guard
from reimagen_common.access.rights import Right
from reimagen_common.addresses import split_address
from reimagen_common.errors import (
    CODE_KEY,
    FIELD_KEY,
    RETRY_KEY,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ReimagenError,
)
from reimagen_common.tls import ServerTls

_logger = logging.getLogger(__name__)

# A grpc.ServicerContext, whose type stubs lack `code()`.
_Context = Any

# gRPC sends the details in a header block, which clients and servers limit to 8 KiB.
_DETAILS_LIMIT = 1_000
# Maximum number of waiting requests per thread. Further requests would wait too long to be useful.
WAITING_PER_WORKER = 4
# Health and reflection use separate threads, so that a busy service does not appear dead.
_HOUSE_WORKERS = 8


class _Pool(ThreadPoolExecutor):
    """A thread pool that counts its unfinished requests."""

    def __init__(self, workers: int) -> None:
        super().__init__(max_workers=workers, thread_name_prefix="grpc")
        self._limit = workers * (1 + WAITING_PER_WORKER)
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        return self._pending >= self._limit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._lock:
            self._pending += 1
        metrics.GRPC_IN_FLIGHT.inc()
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, _future: Future[Any]) -> None:
        with self._lock:
            self._pending -= 1
        metrics.GRPC_IN_FLIGHT.dec()


@dataclass(frozen=True)
class _Reader:
    """A decoder of request messages. gRPC itself would report an invalid message as an internal error."""

    method: str
    deserialize: Callable[[bytes], Any]

    def read(self, message: bytes) -> Any:
        try:
            return self.deserialize(message)
        except Exception as error:  # protobuf's parsers raise various errors.
            raise InvalidArgument(f"the message is not a request of {self.method}") from error

    def read_all(self, messages: Iterator[bytes]) -> Iterator[Any]:
        return map(self.read, messages)


@dataclass
class _Call:
    """A wrapper of a request's behavior, which converts errors to statuses and logs the end."""

    method: str
    behavior: Callable[[Any, _Context], Any]
    read: Callable[[Any], Any]
    streaming: bool
    caller: Caller
    # gRPC runs the behavior in the pool in this attribute, if it exists.
    experimental_thread_pool: ThreadPoolExecutor

    def __call__(self, request: Any, context: _Context) -> Any:
        return self._stream(request, context) if self.streaming else self._unary(request, context)

    def _unary(self, request: Any, context: _Context) -> Any:
        with self._observed(context):
            try:
                _refuse_if_late(context)
                return self.behavior(self.read(request), context)
            except Exception as error:  # noqa: BLE001 - all errors become statuses.
                self._fail(error, context)

    def _stream(self, request: Any, context: _Context) -> Iterator[Any]:
        with self._observed(context):
            try:
                _refuse_if_late(context)
                yield from self.behavior(self.read(request), context)
            except Exception as error:  # noqa: BLE001 - all errors become statuses.
                self._fail(error, context)

    def _fail(self, error: Exception, context: _Context) -> None:
        if context.code() is not None:  # The behavior has called context.abort.
            raise error
        if not isinstance(error, ReimagenError):
            _logger.error("unexpected failure", exc_info=error, extra={"method": self.method})
            error = ReimagenError("the service failed; see its log for the cause")
        metrics.count_refusal("grpc", error)
        metadata = request_id.metadata()  # This replaces the trailing metadata that was set before.
        if error.field is not None:
            metadata.append((FIELD_KEY, error.field.encode("ascii", "backslashreplace").decode()))
        if error.code is not None:
            metadata.append((CODE_KEY, error.code))
        if error.retry_after is not None:
            metadata.append((RETRY_KEY, str(round(error.retry_after * 1000))))
        context.set_trailing_metadata(tuple(metadata))
        context.abort(error.grpc_code, error.message[:_DETAILS_LIMIT])

    @contextmanager
    def _observed(self, context: _Context) -> Iterator[None]:
        """Set the caller, and the request id for logs, then log, measure and trace the request."""
        started = time.monotonic()
        callers.begin(self.caller)
        sent = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        request_id.begin(sent.get(request_id.HEADER))
        context.set_trailing_metadata(tuple(request_id.metadata()))
        try:
            with tracing.serving(self.method, sent, {"rpc.system": "grpc", "rpc.method": self.method}):
                try:
                    yield
                finally:
                    self._end(context, time.monotonic() - started)
        finally:
            request_id.end()
            callers.begin(ANONYMOUS)  # The thread will do other work.

    def _end(self, context: _Context, seconds: float) -> None:
        code = context.code() or (grpc.StatusCode.OK if context.is_active() else grpc.StatusCode.CANCELLED)
        metrics.GRPC_SECONDS.labels(self.method, code.name).observe(seconds)
        failed = code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
        tracing.annotate({"rpc.grpc.status_code": code.value[0]}, failed=failed)
        fields = {"method": self.method, "code": code.name, "peer": context.peer(), "seconds": seconds}
        _logger.info("call", extra=fields)


class _HouseCall:
    """A wrapper of requests of health and reflection, which are neither logged nor measured."""

    def __init__(self, behavior: Callable[..., Any], reader: _Reader, *, streams: bool) -> None:
        self._behavior = behavior
        self._reader = reader
        self._streams = streams
        # gRPC reads from these attributes how to run the behavior.
        for name in ("experimental_non_blocking", "experimental_thread_pool"):
            if hasattr(behavior, name):
                setattr(self, name, getattr(behavior, name))

    def __call__(self, request: Any, context: _Context, *rest: Any) -> Any:
        def read(message: bytes) -> Any:
            try:
                return self._reader.read(message)
            except InvalidArgument as error:
                context.abort(error.grpc_code, error.message)

        return self._behavior(map(read, request) if self._streams else read(request), context, *rest)


def _refuse_if_late(context: _Context) -> None:
    """Raise if the deadline of a request passed while it waited for a thread."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceeded("the deadline passed while the request waited")


class _Interceptor(grpc.ServerInterceptor):
    def __init__(self, pool: _Pool, house: ThreadPoolExecutor, check: CallCheck) -> None:
        self._pool = pool
        self._house = house
        self._check = check

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None:
            return handler
        kind = "_".join(
            "stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming)
        )
        behavior = getattr(handler, kind)
        reader = _Reader(method.removeprefix("/"), handler.request_deserializer)
        if method.startswith("/grpc."):
            call: Any = _HouseCall(behavior, reader, streams=handler.request_streaming)
        else:
            caller, refusal = self._check.identify(reader.method, handler_call_details.invocation_metadata or ())
            if refusal is None and self._pool.full:
                refusal = Overloaded("too many requests are waiting; try again in a moment", retry_after=1.0)
            call = _Call(
                method=reader.method,
                behavior=_raising(refusal) if refusal else self._check.counted(caller, behavior),
                read=_unread if refusal else reader.read_all if handler.request_streaming else reader.read,
                streaming=handler.response_streaming,
                caller=caller,
                experimental_thread_pool=self._house if refusal else self._pool,
            )
        return getattr(grpc, f"{kind}_rpc_method_handler")(call, response_serializer=handler.response_serializer)


def _unread(request: Any) -> Any:
    """Return the request without decoding it, because it is refused."""
    return request


def _raising(error: ReimagenError) -> Callable[[Any, _Context], NoReturn]:
    def refuse(_request: Any, _context: _Context) -> NoReturn:
        raise error

    return refuse


class GrpcServer:
    """A gRPC server on a thread pool, with health and reflection. Each `ReimagenError` becomes its gRPC status.

    Args:
        address: `host:port`. Port 0 picks a free port, see `port`.
        workers: Number of concurrent requests. Four times as many may wait; further ones fail with RESOURCE_EXHAUSTED.
        max_message_bytes: Maximum size of a message, in both directions.
        guard: The checks of keys; by default none are required. Health and reflection never require one.
        rights: The right that each RPC requires.
        tls: The certificates, or None for plain text.
        reuse_port: Whether to share the port, and its connections, with other processes of the same user that set this
            too. Otherwise the port must be free.

    Raises:
        ValueError: The address is not host:port.
        RuntimeError: The server cannot listen on the address.
    """

    port: int
    """The port that the server listens on."""

    def __init__(
        self,
        *,
        address: str,
        workers: int,
        max_message_bytes: int,
        guard: Guard | None = None,
        rights: Mapping[str, Right] | None = None,
        tls: ServerTls | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._check = CallCheck(guard or Guard(), rights or {})
        self._pool = _Pool(workers)
        self._house = ThreadPoolExecutor(_HOUSE_WORKERS, thread_name_prefix="grpc-house")
        self._server = grpc.server(
            self._house,
            interceptors=[_Interceptor(self._pool, self._house, self._check)],
            options=[
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                # Two services on one port would share its requests. Unless this is intended, the second must fail.
                ("grpc.so_reuseport", int(reuse_port)),
            ],
        )
        split_address(address)  # For a port that is too large, gRPC would listen on another port.
        if tls:
            self.port = self._server.add_secure_port(address, tls.grpc_credentials())
        else:
            self.port = self._server.add_insecure_port(address)
        self._health = health.HealthServicer()
        self._services = [health.OVERALL_HEALTH]
        self.set_serving(False)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add(self, register: Callable[[grpc.Server], None], service_name: str) -> None:
        """Add a service before the start.

        Args:
            register: A function that adds the servicer, such as
                `lambda server: add_RetrievalServicer_to_server(servicer, server)`.
            service_name: The full name of the service, such as `reimagen.v1.Retrieval`.

        Raises:
            ValueError: Keys are required, and no right is assigned to an RPC of the service.
        """
        self._check.check_complete(service_name)
        register(self._server)
        self._services.append(service_name)
        self.set_serving(False)

    def start(self) -> None:
        """Start the server. Health is NOT_SERVING until `set_serving(True)`."""
        names = [*self._services[1:], health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)
        self._server.start()

    def set_serving(self, serving: bool) -> None:
        """Set the status of health checks, overall and by service."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._services:
            self._health.set(name, status)

    def stop(self, grace: float) -> None:
        """Set health to NOT_SERVING, refuse new requests, and wait for those in progress.

        Args:
            grace: Seconds until the requests in progress are cancelled.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._house.shutdown(wait=True, cancel_futures=True)
