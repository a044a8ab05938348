"""Counts in Redis, which all processes of all services share."""

import logging
from typing import Final, cast

import redis

from reimagen_common.access.limits import LocalCounters
from reimagen_common.fast_redis import CircuitBreaker, open_redis

_PREFIX: Final = "reimagen:limits:"
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
        self._take = open_redis(url).register_script(_TAKE)
        self._local = LocalCounters()
        self._breaker = CircuitBreaker()

    def take(self, name: str, cost: int, limit: int, seconds: int) -> bool:
        """Add the cost to a count, see `Counters`."""
        if not self._breaker.may_ask():
            return self._local.take(name, cost, limit, seconds)
        try:
            used = cast(int, self._take(keys=[_PREFIX + name], args=[cost, limit, seconds]))
        except (redis.RedisError, OSError) as error:
            if self._breaker.failed():
                _logger.warning("Redis does not answer: each process counts limits alone", extra={"error": str(error)})
            return self._local.take(name, cost, limit, seconds)
        if self._breaker.answered():
            _logger.info("Redis answers again: limits are counted for all processes together")
        if used == _REFUSED:
            return False
        self._local.note(name, used, seconds)
        return True
