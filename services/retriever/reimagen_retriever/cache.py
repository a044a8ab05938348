"""A cache of answers in Redis.

A Redis that does not answer counts as a cache miss, never as a failure. An entry holds the ranking and the locations of
its images, about a kilobyte. The images come from the shards, whose pages the operating system already caches; through
Redis they would need a hundred times the memory and take longer to arrive.
"""

import logging
import random
from collections.abc import Callable
from typing import Literal

import redis

from reimagen_common import tracing
from reimagen_common.fast_redis import CircuitBreaker, open_redis
from reimagen_retriever import metrics

CacheState = Literal["up", "down", "off"]
_Outcome = Literal["answered", "error", "skipped"]

_logger = logging.getLogger(__name__)

# Spreads the expiry of answers that were stored at the same time.
_EXPIRY_JITTER = 0.1


class AnswerCache:
    """A Redis cache of bytes by key, with a circuit breaker. Without a URL it stores nothing.

    When Redis stops answering, the requests in progress wait for the short timeout. After that, one request per second
    tries Redis and the others skip it. A Redis that answers but refuses writes is still read.

    Args:
        url: The Redis URL, or None for no cache.
        seconds: Approximate lifetime of an entry.

    Raises:
        ValueError: The URL is not a valid Redis URL.
    """

    def __init__(self, url: str | None, seconds: int) -> None:
        self._seconds = seconds
        # A search takes a few milliseconds, so a slower cache would be useless.
        self._client: redis.Redis | None = open_redis(url) if url else None
        self._breaker = CircuitBreaker()
        self._refusal: str | None = None
        metrics.CACHE_BREAKER.set(0)

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None if it is missing or Redis does not answer."""
        if self._client is None:
            return None
        with tracing.span("cache"):
            found, outcome = self._ask(lambda client: client.get(key))
            value = found if isinstance(found, bytes) else None
            lookup = outcome if outcome != "answered" else "hit" if value is not None else "miss"
            metrics.CACHE_LOOKUPS.labels(lookup).inc()
            tracing.annotate({"outcome": lookup})
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store a value if Redis answers and has room."""
        seconds = self._seconds * random.uniform(1 - _EXPIRY_JITTER, 1 + _EXPIRY_JITTER)  # noqa: S311 - no secret
        _, outcome = self._ask(lambda client: client.set(key, value, px=max(1, round(seconds * 1000))))
        if outcome == "answered":
            self._refusal = None

    def state(self) -> CacheState:
        """Query Redis and return whether the cache is up, down or off."""
        if self._client is None:
            return "off"
        _, outcome = self._ask(lambda client: client.ping())
        return "up" if outcome == "answered" else "down"

    def degraded_reason(self) -> str | None:
        """Query Redis and return what is wrong with the cache, or None if it works or is not configured."""
        if self.state() == "down":
            return "Redis does not answer: every search goes to the index"
        return self._refusal

    def close(self) -> None:
        """Close the connections."""
        if self._client:
            self._client.close()

    def _ask(self, command: Callable[[redis.Redis], object]) -> tuple[object, _Outcome]:
        if self._client is None or not self._breaker.may_ask():
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
            if self._breaker.failed():
                metrics.CACHE_BREAKER.set(1)
                _logger.warning("Redis does not answer: searching without a cache", extra={"error": str(error)})
            return None, "error"
        if self._breaker.answered():
            metrics.CACHE_BREAKER.set(0)
            _logger.info("Redis answers again: searches are cached")
        return result, "answered"
