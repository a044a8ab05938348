"""What is no HTTP is answered in the form of every other error, and a request's head must come in time."""

import asyncio
import logging
import sys
from typing import Any, Final

import h11
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from reimagen_common.http_errors import answer_to_http

HEAD_BYTES: Final = 64 * 1024
"""Of the first line and the headers together."""
_HEAD_SECONDS: Final = 30
_TOO_LARGE: Final = 431

_logger = logging.getLogger(__name__)


class Protocol(H11Protocol):
    """Uvicorn's, with errors of our form and a limit on the time that a head takes."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come, and wait for the rest of a head that began."""
        super().handle_events()
        waiting = self.conn.their_state is h11.IDLE
        if not waiting:
            self._stop_waiting()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 could not read, and hang up."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # An answer is on its way already.
            self.transport.close()
            return
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if hint == _TOO_LARGE:
            detail = f"address: it and the headers must be at most {HEAD_BYTES // 1024} KiB; send fields in a body"
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
        _logger.info("a request's head did not come in time", extra={"seconds": _HEAD_SECONDS})
        self.transport.close()
