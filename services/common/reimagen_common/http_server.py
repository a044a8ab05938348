"""The frame of an HTTP server: a thread of its own; the host of each request is checked; logs, metrics and traces."""

import logging
import socket
import threading
import time
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reimagen_common import metrics, request_id, tracing
from reimagen_common.addresses import split_address
from reimagen_common.http_hosts import HostGuard
from reimagen_common.http_methods import METHODS, HeadAsGet
from reimagen_common.http_protocol import HEAD_BYTES, Protocol
from reimagen_common.operations import PATHS as OPERATIONS

# For the last bytes of answers whose work has ended.
_CLOSING_SECONDS: Final = 5
_OTHER: Final = "other"
_TOO_MANY_REQUESTS: Final = 429
_FAULT: Final = 500

_logger = logging.getLogger(__name__)


def listen(address: str, *, reuse_port: bool = False) -> socket.socket:
    """Listen on `host:port`; port 0 takes a free one.

    Args:
        address: The host is a name, an IPv4 address, or an IPv6 address in brackets.
        reuse_port: Share the port with other processes of this user that do so too.

    Raises:
        ValueError: it is not host:port.
        OSError: the address is taken or is none of this machine's.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, reuse_port=reuse_port)


class HttpServer:
    """Uvicorn on a thread of its own, so that the main thread stays free for signals."""

    def __init__(self, app: FastAPI, listening: socket.socket, *, allowed_hosts: frozenset[str] = frozenset()) -> None:
        """Take what answers.

        Args:
            app: The application.
            listening: The socket that requests come in at; it is closed at the end.
            allowed_hosts: The hosts that requests may name, beside loopback and the socket's own address.
        """
        self._socket = listening
        # Requests are logged here, once and by their routes. Headers of proxies are not believed: links begin with the
        # host that the client named, or with the public address that is set.
        config = uvicorn.Config(
            _Observed(HostGuard(HeadAsGet(app), allowed=allowed_hosts)),
            http=Protocol,
            h11_max_incomplete_event_size=HEAD_BYTES,
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http")

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what has been asked, then close; harmless where it was never started."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()


class _Observed:
    """Names each request, in all that is logged meanwhile and in its answer; logs, measures and traces it.

    It stands around the whole application, error handlers included. Who asks for health or metrics asks often and tells
    nothing new: that is passed on as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = Headers(scope=scope)
        # It is not ended: each request has a context of its own, in which the server logs what went wrong at last.
        identifier = request_id.begin(headers.get(request_id.HEADER))
        method = scope["method"] if scope["method"] in METHODS else _OTHER
        status = _FAULT

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[request_id.HEADER] = identifier
            await send(message)

        with (
            tracing.serving(method, headers, {"http.request.method": method}),
            metrics.HTTP_IN_FLIGHT.track_inprogress(),
        ):
            try:
                await self._app(scope, receive, send_named)
            finally:
                # The router leaves the route that it found; a path that is none of ours must not become a label.
                route = getattr(scope.get("route"), "path", _OTHER)
                seconds = time.monotonic() - started
                metrics.HTTP_SECONDS.labels(method, route, status).observe(seconds)
                if status == _TOO_MANY_REQUESTS:
                    metrics.OVERLOADED.labels("http").inc()
                attributes = {"http.route": route, "http.response.status_code": status}
                tracing.annotate(attributes, name=f"{method} {route}", failed=status >= _FAULT)
                fields = {"method": method, "path": scope["path"], "status": status, "seconds": seconds}
                _logger.info("request", extra=fields)
