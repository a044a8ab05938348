"""Answers kept in Redis, and no two searches for the same answer at once.

A Redis that does not answer is a cache miss, never a failure. What is kept is the ranking and where its images lie,
about a kilobyte; the images themselves come from the shards, whose pages the system caches already: through Redis
they would take a hundred times its memory and longer to arrive.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from reimagen_common import tracing
from reimagen_retriever import metrics

CacheState = Literal["up", "down", "off"]
_Outcome = Literal["answered", "error", "skipped"]

_logger = logging.getLogger(__name__)

# A search takes a few milliseconds: a cache that takes longer is of no use.
_TIMEOUT_SECONDS = 0.1
# While Redis is down, one search in this time tries it again; the others do not wait for it.
_TRY_AGAIN_SECONDS = 1.0
# Answers that were found together must not all expire together.
_EXPIRY_JITTER = 0.1


class AnswerCache:
    """Bytes by key in Redis, for about so many seconds; without a URL it holds nothing.

    A Redis that does not answer costs those who are asking it then the short time-out. From then on nobody waits for
    it, except for one caller a second, who tries it again. One that answers, but refuses to keep more, is still read.

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
        self._lock = threading.Lock()
        self._down = False
        self._try_again_at = 0.0
        self._refusal: str | None = None
        metrics.CACHE_BREAKER.set(0)

    def get(self, key: str) -> bytes | None:
        """What was put under the key, if it is still there and Redis answers."""
        if self._client is None:
            return None
        with tracing.span("cache"):
            found, outcome = self._ask(lambda client: client.get(key))
            kept = found if isinstance(found, bytes) else None
            found_out = outcome if outcome != "answered" else "hit" if kept is not None else "miss"
            metrics.CACHE_LOOKUPS.labels(found_out).inc()
            tracing.annotate({"outcome": found_out})
        return kept

    def put(self, key: str, value: bytes) -> None:
        """Keeps a value if Redis answers and has room."""
        seconds = self._seconds * random.uniform(1 - _EXPIRY_JITTER, 1 + _EXPIRY_JITTER)  # noqa: S311 - no secret
        _, outcome = self._ask(lambda client: client.set(key, value, px=max(1, round(seconds * 1000))))
        if outcome == "answered":
            self._refusal = None

    def state(self) -> CacheState:
        """Whether answers are being kept; asks Redis."""
        if self._client is None:
            return "off"
        _, outcome = self._ask(lambda client: client.ping())
        return "up" if outcome == "answered" else "down"

    def degraded_reason(self) -> str | None:
        """What is wrong with the cache, for an operator; asks Redis. None where all is well or none is configured."""
        if self.state() == "down":
            return "Redis does not answer: every search goes to the index"
        return self._refusal

    def close(self) -> None:
        """Closes the connections."""
        if self._client:
            self._client.close()

    def _ask(self, command: Callable[[redis.Redis], object]) -> tuple[object, _Outcome]:
        if self._client is None or not self._may_ask():
            return None, "skipped"
        try:
            result = command(self._client)
        except redis.ResponseError as error:
            metrics.CACHE_ERRORS.labels("refused").inc()
            if self._refusal is None:
                _logger.warning("Redis refuses commands: new answers are not cached", extra={"error": str(error)})
            self._refusal = f"Redis refuses commands: {error}"
            return None, "error"
        except (redis.RedisError, OSError) as error:
            metrics.CACHE_ERRORS.labels("unanswered").inc()
            self._break(error)
            return None, "error"
        self._mend()
        return result, "answered"

    def _may_ask(self) -> bool:
        """Whether Redis answers as far as is known, or the caller is the one whose turn it is to try it again."""
        if not self._down:
            return True
        with self._lock:
            if time.monotonic() < self._try_again_at:
                return False
            self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
            return True

    def _break(self, error: Exception) -> None:
        with self._lock:
            self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
            broken, self._down = not self._down, True
        if broken:
            metrics.CACHE_BREAKER.set(1)
            _logger.warning("Redis does not answer: searching without a cache", extra={"error": str(error)})

    def _mend(self) -> None:
        if not self._down:
            return
        with self._lock:
            mended, self._down = self._down, False
        if mended:
            metrics.CACHE_BREAKER.set(0)
            _logger.info("Redis answers again: searches are cached")
