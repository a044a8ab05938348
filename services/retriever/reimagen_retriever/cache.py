"""Answers kept in Redis, and no two searches for the same answer at once.

A Redis that does not answer is a cache miss, never a failure. What is kept is the ranking and where its pictures lie,
about a kilobyte; the pictures themselves come from the shards, whose pages the system caches already: through Redis
they would take a hundred times its memory and longer to arrive.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Literal, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Answer = TypeVar("Answer")
CacheState = Literal["up", "down", "off"]

_logger = logging.getLogger(__name__)

# A search takes a few milliseconds: a cache that takes longer is of no use.
_TIMEOUT_SECONDS = 0.1
# While Redis is down, one search in this time tries it again; the others do not wait for it.
_TRY_AGAIN_SECONDS = 1.0
# Answers that were found together must not all expire together.
_EXPIRY_JITTER = 0.1


class AnswerCache:
    """Bytes by key in Redis, for about so many seconds; without a URL it holds nothing.

    Raises:
        ValueError: the URL is none that Redis knows.
    """

    def __init__(self, url: str | None, seconds: int) -> None:
        self._seconds = seconds
        self._client: redis.Redis | None = None
        if url:
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        self._down = False
        self._try_again_at = 0.0

    def get(self, key: str) -> bytes | None:
        """What was put under the key, if it is still there and Redis answers."""
        found = self._ask(lambda client: client.get(key))
        return found if isinstance(found, bytes) else None

    def put(self, key: str, value: bytes) -> None:
        """Keeps a value if Redis answers."""
        seconds = self._seconds * random.uniform(1 - _EXPIRY_JITTER, 1 + _EXPIRY_JITTER)  # noqa: S311 - no secret
        self._ask(lambda client: client.set(key, value, px=max(1, round(seconds * 1000))))

    def state(self) -> CacheState:
        """Whether answers are being kept; asks Redis."""
        if self._client is None:
            return "off"
        return "up" if self._ask(lambda client: client.ping()) else "down"

    def close(self) -> None:
        """Closes the connections."""
        if self._client:
            self._client.close()

    def _ask(self, command: Callable[[redis.Redis], object]) -> object:
        if self._client is None or (self._down and time.monotonic() < self._try_again_at):
            return None
        try:
            result = command(self._client)
        except (redis.RedisError, OSError) as error:
            self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
            if not self._down:
                self._down = True
                _logger.warning("Redis does not answer: searching without a cache", extra={"error": str(error)})
            return None
        if self._down:
            self._down = False
            _logger.info("Redis answers again: searches are cached")
        return result


class SingleFlight(Generic[Answer]):
    """Of several callers who want the same at the same time, one works and all get its answer or its error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Answer]] = {}

    def do(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """The answer of `work`, the caller's own or that of the one who is at it already."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                mine = self._flights[key] = Future()
        if flight is not None:
            return flight.result()
        try:
            mine.set_result(work())
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return mine.result()
