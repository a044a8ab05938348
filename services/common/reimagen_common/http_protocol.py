"""The HTTP protocol of the server: `Problem` responses to invalid HTTP, and a time limit for request heads."""

import asyncio
import logging
import sys
from typing import Any, Final

import h11
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from reimagen_common.http_errors import answer_to_http

HEAD_BYTES: Final = 64 * 1024
"""Maximum size of the first line and the headers together."""
_HEAD_SECONDS: Final = 30
_TOO_LARGE: Final = 431

_logger = logging.getLogger(__name__)


class Protocol(H11Protocol):
    """Uvicorn's protocol with `Problem` responses and a time limit for receiving a request head."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle received data, and start the timer if a head is incomplete."""
        super().handle_events()
        waiting = self.conn.their_state is h11.IDLE
        if not waiting:
            self._stop_waiting()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Respond to a request that h11 could not parse, and close the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # A response is already being sent.
            self.transport.close()
            return
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if hint == _TOO_LARGE:
            detail = f"address: URL and headers must be at most {HEAD_BYTES // 1024} KiB; send fields in a body"
        else:
            detail = f"the request is not HTTP: {error or msg}"
        refusal = HTTPException(hint, detail)
        answer = answer_to_http(refusal, {"type": "http", "method": "", "path": ""})
        headers = [*answer.raw_headers, (b"connection", b"close")]
        events: list[Any] = [
            h11.Response(status_code=hint, headers=headers),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        _logger.info("a request head did not arrive in time", extra={"seconds": _HEAD_SECONDS})
        self.transport.close()
