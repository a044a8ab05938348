"""Limits on requests: size and duration of bodies, and number of concurrent uploads and requests."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reimagen_common.http_errors import answer_to_http
from reimagen_common.operations import PATHS as OPERATIONS

_MIB: Final = 1024 * 1024
# A larger body is an upload. The number of concurrent uploads is limited.
_SMALL_BYTES: Final = 64 * 1024
# Minimum rate of a body, after its first seconds.
_BYTES_PER_SECOND: Final = 256 * 1024
_CLOSE: Final = {"Connection": "close"}
_TRY_AGAIN: Final = {"Retry-After": "1"}


@dataclass(frozen=True)
class BodyLimits:
    """Limits on request bodies."""

    maximum_bytes: int
    """Maximum size of a body."""
    advice: str
    """What to do about a body that is too large, for the error message."""
    uploads: int
    """Maximum number of concurrent bodies of more than 64 KiB."""
    seconds: float
    """Time limit for receiving a body, plus one second per 256 KiB received."""
    larger: Mapping[str, int] = field(default_factory=dict)
    """Maximum size by path, where it differs from `maximum_bytes`."""


class Bodies:
    """ASGI middleware that enforces `BodyLimits` while the application reads the bodies.

    Violations are raised as an HTTPException where the body is read, so that the error handlers of the application
    answer them.
    """

    def __init__(self, app: ASGIApp, *, limits: BodyLimits) -> None:
        """Wrap an application."""
        self._app = app
        self._limits = limits
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with the limits on its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # Request smuggling: proxies and servers that read different headers disagree on where the body ends.
            message = "content-length: must not be sent together with Transfer-Encoding; send one of them"
            await answer_to_http(HTTPException(400, message, _CLOSE), scope)(scope, receive, send)
            return
        declared = headers.get("content-length", "0")
        body = _Body(self, scope["path"], int(declared) if declared.isdigit() else 0, receive)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.end()

    def maximum(self, path: str) -> int:
        """Return the maximum size of a body at a path, in bytes."""
        return self._limits.larger.get(path, self._limits.maximum_bytes)

    @property
    def limits(self) -> BodyLimits:
        """The limits on request bodies."""
        return self._limits

    def take_upload(self) -> None:
        """Count an upload.

        Raises:
            HTTPException: There are too many concurrent uploads.
        """
        if self._uploads >= self._limits.uploads:
            message = f"{self._uploads} uploads are in progress, which is the limit; try again in a moment"
            raise HTTPException(429, message, _TRY_AGAIN | _CLOSE)
        self._uploads += 1

    def end_upload(self) -> None:
        """Uncount an upload."""
        self._uploads -= 1


class _Body:
    """The body of a request."""

    def __init__(self, bodies: Bodies, path: str, declared: int, receive: Receive) -> None:
        self._bodies = bodies
        self._maximum = bodies.maximum(path)
        self._declared = declared
        self._receive = receive
        self._received = 0
        self._started = time.monotonic()
        self._complete = False
        self._is_upload = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        self._check(self._declared)
        allowed = self._bodies.limits.seconds + self._received / _BYTES_PER_SECOND
        try:
            async with asyncio.timeout(max(0.0, self._started + allowed - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            detail = f"body: did not arrive within {allowed:,.0f} seconds; {self._received:,} bytes were received"
            raise HTTPException(408, detail, _CLOSE) from error
        self._received += len(message.get("body", b""))
        self._check(self._received)
        self._complete = not message.get("more_body", False)
        return message

    def _check(self, size: int) -> None:
        if size > self._maximum:
            detail = f"body: must be at most {self._maximum // _MIB} MiB; {self._bodies.limits.advice}"
            raise HTTPException(413, detail, _CLOSE)
        if size > _SMALL_BYTES and not self._is_upload:
            self._bodies.take_upload()
            self._is_upload = True

    def end(self) -> None:
        if self._is_upload:
            self._bodies.end_upload()


class RequestSlots:
    """ASGI middleware that limits the number of concurrent requests.

    A request with a body counts only once its body is complete.
    """

    def __init__(self, app: ASGIApp, *, slots: int) -> None:
        """Wrap an application and set the maximum number of concurrent requests."""
        self._app = app
        self._free = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it with 429 at the limit. Health and metrics are exempt."""
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        has_slot = False

        def take() -> None:
            nonlocal has_slot
            if not self._free:
                raise HTTPException(429, "too many requests are waiting; try again in a moment", _TRY_AGAIN)
            self._free -= 1
            has_slot = True

        async def receive_then_take() -> Message:
            message = await receive()
            if not has_slot and message["type"] == "http.request" and not message.get("more_body", False):
                take()
            return message

        headers = Headers(scope=scope)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if not has_body or not self._free:
            try:
                take()
            except HTTPException as error:
                await answer_to_http(error, scope)(scope, receive, send)
                return
        try:
            await self._app(scope, receive_then_take, send)
        finally:
            if has_slot:
                self._free += 1
