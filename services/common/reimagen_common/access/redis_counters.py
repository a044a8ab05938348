"""Counts in Redis, which all processes of all services share."""

import logging
import threading
import time
from typing import Final, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from reimagen_common.access.limits import LocalCounters

_PREFIX: Final = "reimagen:limits:"
# A request waits for this long at most.
_TIMEOUT_SECONDS: Final = 0.1
# While Redis is down, one request per this interval tries it again.
_TRY_AGAIN_SECONDS: Final = 1.0
_REFUSED: Final = -1
# Check and addition are one step, so that concurrent requests cannot exceed the limit together.
_TAKE: Final = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return -1 end
used = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return used
"""

_logger = logging.getLogger(__name__)


class RedisCounters:
    """Counts in Redis. While it does not answer, this process counts on alone: an outage must not refuse every key."""

    def __init__(self, url: str) -> None:
        """Create the counters without connecting.

        Raises:
            ValueError: The URL is not a valid Redis URL.
        """
        client = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._take = client.register_script(_TAKE)
        self._local = LocalCounters()
        self._lock = threading.Lock()
        self._down = False
        self._try_again_at = 0.0

    def take(self, name: str, cost: int, limit: int, seconds: int) -> bool:
        """Add the cost to a count, see `Counters`."""
        if not self._may_ask():
            return self._local.take(name, cost, limit, seconds)
        try:
            used = cast(int, self._take(keys=[_PREFIX + name], args=[cost, limit, seconds]))
        except (redis.RedisError, OSError) as error:
            self._break(error)
            return self._local.take(name, cost, limit, seconds)
        self._mend()
        if used == _REFUSED:
            return False
        self._local.note(name, used, seconds)
        return True

    def _may_ask(self) -> bool:
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
            _logger.warning("Redis does not answer: each process counts limits alone", extra={"error": str(error)})

    def _mend(self) -> None:
        if self._down:
            self._down = False
            _logger.info("Redis answers again: limits are counted for all processes together")
