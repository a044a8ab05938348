"""A limit on what a request may send, kept before anything is parsed."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES: Final = 32 * 1024 * 1024


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
    return HTTPException(
        413, f"body: must be at most {BODY_BYTES // 1024 // 1024} MiB; send fewer or smaller references"
    )
