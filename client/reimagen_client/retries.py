"""When a request is sent again, and the errors that responses and broken connections become."""

import email.utils
import random
import time
from dataclasses import dataclass
from typing import Final

import httpx

from reimagen_client.errors import (
    BAD_GATEWAY,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    ReimagenError,
    Unavailable,
    error_of_status,
)

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_EXCERPT: Final = 200


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a client waits to send a request again."""

    retries: int = 2
    """Maximum number of repetitions; 0 turns them off."""
    first_seconds: float = 0.5
    """Pause before the first repetition; each further one is twice as long. None is shorter than the service asks."""
    longest_seconds: float = 60.0
    """Longest pause. If the service asks for a longer one, the error is raised at once."""


class Attempts:
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy, *, repeatable: bool, keyed: bool) -> None:
        """Start with the first attempt.

        Args:
            policy: How often and how long to wait.
            repeatable: Whether the call can be sent again after its connection broke.
            keyed: Whether the call has an idempotency key.
        """
        self._policy = policy
        self._repeatable = repeatable
        self._keyed = keyed
        self._number = 0
        self._broken = False

    def pause(self, error: ReimagenError) -> float:
        """Return the seconds to wait before the call is sent again after an error.

        Raises:
            ReimagenError: The given error, if the call is not sent again.
        """
        broken, self._broken = self._broken, self._broken or _was_sent(error)
        # After a broken connection, the first request of the same key can still be handled.
        again = broken and isinstance(error, Conflict) and self._keyed
        unanswered = isinstance(error, Unavailable) and error.status in (None, BAD_GATEWAY)
        overloaded = isinstance(error, Overloaded | Unavailable) and not unanswered
        may_repeat = overloaded or again or (unanswered and (self._repeatable or not _was_sent(error)))
        if not may_repeat or self._number >= self._policy.retries:
            raise error
        # Randomness keeps clients apart that were refused at the same time.
        seconds = self._policy.first_seconds * 2.0**self._number * random.uniform(0.75, 1.25)  # noqa: S311
        longest, requested = self._policy.longest_seconds, error.retry_after or 0.0
        if requested > longest:
            raise error
        self._number += 1
        # The service does not know how long it will be unavailable, so pauses grow also if it asks for a short one.
        return max(min(seconds, longest), requested)


def _was_sent(error: ReimagenError) -> bool:
    """Whether a request may have reached the service although no answer of it arrived."""
    return error.status == BAD_GATEWAY or (error.status is None and not isinstance(error.__cause__, _NOT_SENT))


def from_transport(error: httpx.HTTPError | httpx.StreamError, base_url: str) -> ReimagenError:
    """Return the error of a connection that failed."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        found: ReimagenError = DeadlineExceeded(f"{base_url} did not answer in time")
    elif isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        found = InvalidRequest(f"cannot send the request: {error}")
    else:
        reason = str(error) or type(error).__name__
        found = Unavailable(f"cannot reach {base_url}: {reason}; is the service running there?")
    found.__cause__ = error
    return found


def from_response(response: httpx.Response) -> ReimagenError:
    """Return the error that a response reports, whose body was read."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    nested = problem.get("error")
    error = nested if isinstance(nested, dict) else {}
    excerpt = response.text[:_EXCERPT].strip()
    message = problem.get("detail") or error.get("message") or excerpt or response.reason_phrase
    return error_of_status(response.status_code)(
        str(message),
        status=response.status_code,
        field=problem.get("field") or error.get("param"),
        code=error.get("code"),
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _seconds(text: str | None) -> float | None:
    """Return the seconds that a header Retry-After names as a number or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
