"""Redis for work that must not wait for it: a client with a short timeout, and a circuit breaker for outages."""

import threading
import time
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# A request waits for this long at most.
_TIMEOUT_SECONDS: Final = 0.1
# While Redis is down, one request per this interval tries it again. The others skip it.
_TRY_AGAIN_SECONDS: Final = 1.0


def open_redis(url: str) -> redis.Redis:
    """Return a client that is not connected yet, and neither waits nor tries again.

    Raises:
        ValueError: The URL is not a valid Redis URL.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


class CircuitBreaker:
    """Remembers whether a server answers, so that requests skip one that does not. Any thread may use it."""

    def __init__(self) -> None:
        """Start with a server that is believed to be up."""
        self._lock = threading.Lock()
        self._down = False
        self._try_again_at = 0.0

    def may_ask(self) -> bool:
        """Return whether the server is believed to be up, or this request is the periodic retry."""
        if not self._down:
            return True
        with self._lock:
            if time.monotonic() < self._try_again_at:
                return False
            self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
            return True

    def failed(self) -> bool:
        """Note that the server did not answer; return whether the outage begins."""
        with self._lock:
            self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
            begins, self._down = not self._down, True
        return begins

    def answered(self) -> bool:
        """Note that the server answered; return whether an outage ends."""
        if not self._down:
            return False
        with self._lock:
            ends, self._down = self._down, False
        return ends
