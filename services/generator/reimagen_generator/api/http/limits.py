"""A limit on what a request may send, kept before anything is parsed."""

import math
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reimagen_generator.requests import NEIGHBORS, REFERENCE_BYTES

_MIB: Final = 1024 * 1024
# What is in a body beside references: a prompt, captions, each character of them perhaps twelve bytes of escapes.
_REST_BYTES: Final = 2 * _MIB
BODY_BYTES: Final = (NEIGHBORS * math.ceil(REFERENCE_BYTES / 3) * 4 + _REST_BYTES) // _MIB * _MIB
"""The most references, each as large as it may be, fit in base64."""


class BodyLimit:
    """Refuses a body as soon as it is known to be too large, whether it says so itself or not."""

    def __init__(self, app: ASGIApp) -> None:
        """Take the application that the requests go on to."""
        self._app = app

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
            if declared.isdigit() and int(declared) > BODY_BYTES:
                raise _too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES:
                raise _too_large()
            return message

        await self._app(scope, counted, send)


def _too_large() -> HTTPException:
    return HTTPException(413, f"body: must be at most {BODY_BYTES // _MIB} MiB; send fewer or smaller references")
