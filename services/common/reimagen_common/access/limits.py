"""Rate limits and quotas of keys: how much each key used in the current minute and on the current day.

Windows are those of the clock, in UTC: a rate limit starts anew with each minute, a quota at midnight. A refused
request uses nothing. The package `limits` does not fit: its fixed windows count refused requests too, and its support
of Redis excludes the client library's current version.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final, Protocol

from reimagen_common.errors import LimitExceeded, QuotaExceeded


@dataclass(frozen=True)
class Window:
    """A unit that is counted for a time."""

    unit: str
    """What is counted, in the plural."""
    seconds: int
    """Length of the window."""
    name: str
    """What the window is called after `a`."""
    error: type[LimitExceeded]
    """Error of a key that has used up its limit."""


REQUESTS: Final = Window("requests", 60, "minute", LimitExceeded)
IMAGES: Final = Window("images", 86_400, "day", QuotaExceeded)


class Counters(Protocol):
    """Counts by name. A count is forgotten some time after its window."""

    def take(self, name: str, cost: int, limit: int, seconds: int) -> bool:
        """Add the cost to a count unless it would exceed the limit, and return whether it was added.

        Args:
            name: The name of the count, which includes its window.
            cost: What to add.
            limit: The maximum of the count.
            seconds: Length of the window.
        """


class LocalCounters:
    """Counts of this process alone."""

    def __init__(self) -> None:
        """Start with no counts."""
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, float]] = {}
        self._sweep_at = 0.0

    def take(self, name: str, cost: int, limit: int, seconds: int) -> bool:
        """Add the cost to a count, see `Counters`."""
        with self._lock:
            self._sweep()
            used, _ = self._counts.get(name, (0, 0.0))
            if used + cost > limit:
                return False
            self._counts[name] = (used + cost, time.monotonic() + seconds)
            return True

    def note(self, name: str, used: int, seconds: int) -> None:
        """Take over a count that others keep, so that counting can go on from there."""
        with self._lock:
            self._sweep()
            # Answers of concurrent requests arrive in any order.
            known, _ = self._counts.get(name, (0, 0.0))
            self._counts[name] = (max(known, used), time.monotonic() + seconds)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + REQUESTS.seconds
            self._counts = {name: entry for name, entry in self._counts.items() if entry[1] > now}


def take(counters: Counters, window: Window, key: str, cost: int, limit: int) -> None:
    """Use some of a key's limit.

    Raises:
        LimitExceeded: Less than the cost is left in the current window. `retry_after` is the rest of the window.
    """
    if cost > limit:
        raise window.error(
            f"the API key {key} may have {limit:,} {window.unit} a {window.name}, and the request asks for {cost:,}"
        )
    now = time.time()
    number, elapsed = divmod(now, window.seconds)
    if not counters.take(f"{window.unit}:{key}:{number:.0f}", cost, limit, window.seconds):
        raise window.error(
            f"the API key {key} has used up its {limit:,} {window.unit} a {window.name}",
            retry_after=window.seconds - elapsed,
        )
