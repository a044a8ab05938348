"""Limits on what requests bring: how large a body may be, how long it may take, how many large ones come at once."""

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
# A body of more bytes is an upload, of which there may be only so many at once.
_SMALL_BYTES: Final = 64 * 1024
# A body that comes more slowly is given up, its first seconds aside.
_BYTES_A_SECOND: Final = 256 * 1024
_CLOSE: Final = {"Connection": "close"}
_TRY_AGAIN: Final = {"Retry-After": "1"}


@dataclass(frozen=True)
class BodyLimits:
    """What a request may bring."""

    maximum_bytes: int
    """Of a body."""
    advice: str
    """What to do about a body that is too large."""
    uploads: int
    """How many bodies of more than 64 KiB may be held at once."""
    seconds: float
    """What a body may take to arrive, beside a second for each 256 KiB of it."""
    larger: Mapping[str, int] = field(default_factory=dict)
    """The most bytes by path, where they are not `maximum_bytes`."""


class Bodies:
    """Counts and times the bodies of requests while the application reads them.

    What is wrong is raised where the body is read, as an HTTPException, so that the application's own error handlers
    answer it.
    """

    def __init__(self, app: ASGIApp, *, limits: BodyLimits) -> None:
        """Take the application that the requests go on to."""
        self._app = app
        self._limits = limits
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted and timed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # Proxies that read the one and servers that read the other take what follows for two different requests.
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
        """Return the most bytes of a body at the path."""
        return self._limits.larger.get(path, self._limits.maximum_bytes)

    @property
    def limits(self) -> BodyLimits:
        """What a request may bring."""
        return self._limits

    def take_upload(self) -> None:
        """Count an upload.

        Raises:
            HTTPException: there are too many at once.
        """
        if self._uploads >= self._limits.uploads:
            message = f"{self._uploads} uploads are under way, which is the most; try again in a moment"
            raise HTTPException(429, message, _TRY_AGAIN | _CLOSE)
        self._uploads += 1

    def end_upload(self) -> None:
        """Uncount an upload."""
        self._uploads -= 1


class _Body:
    """One request's body."""

    def __init__(self, bodies: Bodies, path: str, declared: int, receive: Receive) -> None:
        self._bodies = bodies
        self._maximum = bodies.maximum(path)
        self._declared = declared
        self._receive = receive
        self._received = 0
        self._started = time.monotonic()
        self._whole = False
        self._is_upload = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        self._check(self._declared)
        allowed = self._bodies.limits.seconds + self._received / _BYTES_A_SECOND
        try:
            async with asyncio.timeout(max(0.0, self._started + allowed - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            detail = f"body: did not arrive within {allowed:,.0f} seconds; {self._received:,} bytes of it came"
            raise HTTPException(408, detail, _CLOSE) from error
        self._received += len(message.get("body", b""))
        self._check(self._received)
        self._whole = not message.get("more_body", False)
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


class Places:
    """Refuses a request at once while so many others are being answered; a body holds no place until it is whole."""

    def __init__(self, app: ASGIApp, *, places: int) -> None:
        """Take the application that the requests go on to, and how many it may have at once."""
        self._app = app
        self._free = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if there is a place; operators always have one."""
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        holds = False

        def take() -> None:
            nonlocal holds
            if not self._free:
                raise HTTPException(429, "too many requests are waiting; try again in a moment", _TRY_AGAIN)
            self._free -= 1
            holds = True

        async def receive_then_take() -> Message:
            message = await receive()
            if not holds and message["type"] == "http.request" and not message.get("more_body", False):
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
            if holds:
                self._free += 1
