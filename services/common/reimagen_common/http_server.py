"""The frame of an HTTP server: a thread of its own, a limit on bodies; each request is logged, measured and traced."""

import logging
import socket
import threading
import time
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reimagen_common import metrics, request_id, tracing
from reimagen_common.errors import Overloaded
from reimagen_common.http_errors import answer_to
from reimagen_common.operations import PATHS as OPERATIONS

# For the last bytes of answers whose work has ended.
_CLOSING_SECONDS: Final = 5
_MIB: Final = 1024 * 1024
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
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
        OSError: the address is taken or is none of this machine's.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family, reuse_port=reuse_port)


class HttpServer:
    """Uvicorn on a thread of its own, so that the main thread stays free for signals."""

    def __init__(self, app: FastAPI, listening: socket.socket) -> None:
        """Take the socket that requests come in at, and close it at the end."""
        self._socket = listening
        # Requests are logged here, once and by their routes.
        config = uvicorn.Config(
            _Observed(app), log_config=None, access_log=False, timeout_graceful_shutdown=_CLOSING_SECONDS
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
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
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


class Places:
    """Refuses a request unread, and at once, while so many others are being answered."""

    def __init__(self, app: ASGIApp, *, places: int) -> None:
        """Take the application that the requests go on to, and how many it may have at once."""
        self._app = app
        self._free = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if there is a place; operators always have one."""
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        if not self._free:
            error = Overloaded("too many requests are waiting; try again in a moment", retry_after=1.0)
            await answer_to(error)(scope, receive, send)
            return
        self._free -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1


class BodyLimit:
    """Refuses a body as soon as it is known to be too large, whether it says so itself or not."""

    def __init__(self, app: ASGIApp, *, maximum_bytes: int, advice: str) -> None:
        """Take the application that the requests go on to, and what to do about a body that is too large."""
        self._app = app
        self._maximum = maximum_bytes
        self._advice = advice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        received = 0

        # Raised where the body is read, so that the application's own error handlers answer it.
        async def counted() -> Message:
            nonlocal received
            if declared.isdigit() and int(declared) > self._maximum:
                raise self._too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._maximum:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"body: must be at most {self._maximum // _MIB} MiB; {self._advice}")
