"""An HTTP server on its own thread, with host checks, logs, metrics and traces."""

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
from reimagen_common.tls import ServerTls

# Time limit for sending the last bytes of responses at shutdown.
_CLOSING_SECONDS: Final = 5
_OTHER: Final = "other"
_FAULT: Final = 500

_logger = logging.getLogger(__name__)


def listen(address: str, *, reuse_port: bool = False) -> socket.socket:
    """Listen on `host:port`. Port 0 picks a free port.

    Args:
        address: The address. The host is a name, an IPv4 address, or an IPv6 address in brackets.
        reuse_port: Whether to share the port with other processes of the same user that set this too.

    Raises:
        ValueError: The address is not host:port.
        OSError: The address is in use or does not belong to this machine.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, reuse_port=reuse_port)


class HttpServer:
    """A Uvicorn server on its own thread, so that the main thread remains free for signals."""

    def __init__(
        self,
        app: FastAPI,
        listening: socket.socket,
        *,
        allowed_hosts: frozenset[str] = frozenset(),
        tls: ServerTls | None = None,
    ) -> None:
        """Create a server.

        Args:
            app: The application.
            listening: The listening socket, which `stop` closes.
            allowed_hosts: The canonical hosts to accept in addition to loopback and the socket's address.
            tls: The certificates, or None for plain HTTP.
        """
        self._socket = listening
        # `_Observed` logs requests, so Uvicorn's access log is off. Proxy headers are not trusted: links begin with the
        # host of the request or the configured public URL.
        config = uvicorn.Config(
            _Observed(HostGuard(HeadAsGet(app), allowed=allowed_hosts)),
            http=Protocol,
            h11_max_incomplete_event_size=HEAD_BYTES,
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
            ssl_context_factory=(lambda *_: tls.http_context()) if tls else None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http")

    def start(self) -> None:
        """Start the server."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests in progress, then close. Has no effect before `start` or after `stop`."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()


class _Observed:
    """ASGI middleware that sets the request id for logs and the response, and logs, measures and traces requests.

    It wraps the whole application, including its error handlers. Requests for health and metrics are excluded, because
    they are frequent and carry no information.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = Headers(scope=scope)
        # The id is not reset, because each request has its own context, in which the server logs errors at the end.
        identifier = request_id.begin(headers.get(request_id.HEADER))
        method = scope["method"] if scope["method"] in METHODS else _OTHER
        status = _FAULT

        async def send_with_id(message: Message) -> None:
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
                await self._app(scope, receive, send_with_id)
            finally:
                # The router stores the matched route in the scope. An unknown path must not become a label.
                route = getattr(scope.get("route"), "path", _OTHER)
                seconds = time.monotonic() - started
                metrics.HTTP_SECONDS.labels(method, route, status).observe(seconds)
                attributes = {"http.route": route, "http.response.status_code": status}
                tracing.annotate(attributes, name=f"{method} {route}", failed=status >= _FAULT)
                fields = {"method": method, "path": scope["path"], "status": status, "seconds": seconds}
                _logger.info("request", extra=fields)
